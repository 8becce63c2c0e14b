"""Small copies of the data sets that the study reads from a hub, in the layout of their real repositories."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import pandas as pd

WORDS = [
    "the", "sum", "of", "an", "array", "is", "wrong", "when", "elements", "return", "along", "this", "axis", "and", "every",
    "other", "one", "is", "kept", "as", "it", "was", "before",
]  # fmt: skip


def text(number: int, words: int = 40) -> str:
    """Some sentence, another for every number."""
    return " ".join(WORDS[(number * 7 + place * place) % len(WORDS)] for place in range(words)) + f" {number}."


def build(root: Path) -> None:
    """All of them under ``root``/datasets."""
    datasets = root / "datasets"
    _c4(datasets / "allenai/c4")
    _wikitext(datasets / "Salesforce/wikitext")
    _ptb(datasets / "ptb-text-only")
    choices = [{"text": [text(4 * n + k, 3) for k in range(4)], "label": list("ABCD")} for n in range(12)]
    rows = [{"id": str(n), "question_stem": text(n, 9), "choices": choices[n], "answerKey": "ABCD"[n % 4]} for n in range(12)]
    _parquet(datasets / "allenai/openbookqa", {"main": {split: rows for split in ("train", "validation", "test")}})
    rows = [
        {"ind": n, "activity_label": "Sorting", "ctx_a": text(n, 9), "ctx_b": "then", "endings": choices[n]["text"], "label": str(n % 4)}
        for n in range(12)
    ]  # fmt: skip
    _parquet(datasets / "Rowan/hellaswag", {"default": {split: rows for split in ("train", "validation", "test")}})
    rows = [{"goal": text(n, 9), "sol1": text(n, 5), "sol2": text(n + 1, 5), "label": n % 2} for n in range(12)]
    _parquet(datasets / "baber/piqa", {"default": {split: rows for split in ("train", "validation", "test")}})
    rows = [{"question": text(n, 9), "subject": "history", "choices": choices[n]["text"], "answer": n % 4} for n in range(12)]
    _parquet(datasets / "cais/mmlu", {"high_school_european_history": {split: rows for split in ("test", "validation", "dev")}})


def _c4(folder: Path) -> None:
    for file, first in (("en/c4-train.00000-of-01024.json.gz", 0), ("en/c4-validation.00000-of-00008.json.gz", 1000)):
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = ({"text": text(first + n), "timestamp": "2019-04-25T12:57:54Z", "url": f"http://{n}"} for n in range(60))
        path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode(), mtime=0))


def _wikitext(folder: Path) -> None:
    lines = ["", " = Title = \n", *(f" {text(n)} \n" for n in range(30))]
    splits = {split: [{"text": line} for line in lines] for split in ("train", "validation", "test")}
    other = {split: [{"text": "of another config"}] for split in splits}
    _parquet(folder, {"wikitext-103-raw-v1": other, "wikitext-2-raw-v1": splits})


def _ptb(owner: Path) -> None:
    scripts, converted = owner / "ptb_text_only", owner / "ptb_text_only@refs~convert~parquet"
    scripts.mkdir(parents=True, exist_ok=True)
    (scripts / "ptb_text_only.py").write_text("raise SystemExit('a loading script was run')")
    for split in ("train", "validation", "test"):
        path = converted / "penn_treebank" / split / "0000.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame({"sentence": [text(n) for n in range(30)]}).to_parquet(path)


def _parquet(folder: Path, configs: dict[str, dict[str, list[dict]]]) -> None:
    """Files by config and split, and the card that names them."""
    shutil.rmtree(folder, ignore_errors=True)
    card = ["---", "configs:"]
    for config, splits in configs.items():
        card += [f"- config_name: {config}", "  data_files:"]
        for split, rows in splits.items():
            path = folder / config / f"{split}-00000-of-00001.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            pd.DataFrame(rows).to_parquet(path)
            card += [f"  - split: {split}", f"    path: {config}/{split}-*"]
    (folder / "README.md").write_text("\n".join([*card, "---", ""]))
