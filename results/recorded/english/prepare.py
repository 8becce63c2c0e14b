"""Make the text and the tasks of this recorded run out of files that are public: ``python prepare.py FOLDER``, beside params.yaml.

FOLDER holds, under these names: ``wikitext2/{valid,test}.txt`` (WikiText-2 as released), ``c4/c4.jsonl`` (documents of C4's English train
split), ``wikipedia/*.jsonl.xz`` and ``wikinews/*.jsonl.xz`` (a ``text`` a line), and ``tasks/``: HellaSwag's validation items and
OpenBookQA's test items as ``query``, ``choices``, ``gold``, and MMLU's high-school European history as its csv.
"""

from __future__ import annotations

import csv
import json
import re
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).parent
TASK = """\
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {items}}}, cache_dir: {cache}}}
test_split: test
output_type: multiple_choice
doc_to_text: query
doc_to_target: gold
doc_to_choice: choices
target_delimiter: " "
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
  - {{metric: acc_norm, aggregation: mean, higher_is_better: true}}
"""


def articles(text: str) -> list[str]:
    """WikiText-2 at its titles: `` = Title = `` on a line of its own."""
    parts = re.split(r"(?m)^(?= = [^=].*[^=] = $)", text)
    return [part.strip() for part in parts if part.strip()]


def european_history(path: Path) -> list[dict]:
    """MMLU's rows (question, four choices, letter) as items, asked as MMLU asks."""
    items = []
    for question, *choices, letter in csv.reader(path.open(encoding="utf-8", newline="")):
        listed = "\n".join(f"{name}. {choice}" for name, choice in zip("ABCD", choices, strict=True))
        items.append({"query": f"{question.strip()}\n{listed}\nAnswer:", "choices": list("ABCD"), "gold": "ABCD".index(letter)})
    return items


def write(items: list[dict], path: Path) -> None:
    """A JSON object a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(item) + "\n" for item in items), encoding="utf-8")


def main(source: Path) -> None:
    """Everything into ``text/`` and ``tasks/`` beside this file."""
    for split in ("valid", "test"):
        found = articles((source / f"wikitext2/{split}.txt").read_text(encoding="utf-8"))
        write([{"text": text} for text in found], HERE / f"text/wikitext2_{split}.jsonl")
    for name in ("c4", "wikipedia", "wikinews"):
        for path in (source / name).glob("*.jsonl*"):
            shutil.copy(path, HERE / "text" / f"{name}{''.join(path.suffixes)}")
    for name, path in (("hellaswag", "hellaswag/hellaswag_val.jsonl"), ("openbookqa", "openbookqa/test.jsonl")):
        lines = (source / "tasks" / path).read_text(encoding="utf-8").splitlines()
        write([{key: json.loads(line)[key] for key in ("query", "choices", "gold")} for line in lines], HERE / f"tasks/{name}.jsonl")
    history = european_history(source / "tasks/mmlu/test/high_school_european_history_test.csv")
    write(history, HERE / "tasks/european_history.jsonl")
    for path in sorted((HERE / "tasks").glob("*.jsonl")):
        name = f"english_{path.stem}"
        path.with_suffix(".yaml").write_text(TASK.format(name=name, items=path.resolve(), cache=path.resolve().parent / ".cache"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
