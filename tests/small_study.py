"""A study of a minute: a model with random weights, texts of a few words in files, every training of a few steps."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import families
import yaml
from conftest import ROOT

from ctp_lib.settings import paths, study
from ctp_lib.settings.study import Study
from ctp_lib.text import corpora

WORDS = [
    "array", "axis", "value", "index", "matrix", "frame", "column", "vector", "sum", "mean", "sort", "reshape", "tensor", "weight",
    "layer", "token", "model", "split", "merge", "count",
]  # fmt: skip
LEVELS = ["full", "3bit", "50%"]
MATRICES = ["q_proj", "v_proj", "o_proj", "up_proj", "query_key_value", "dense", "fc1"]
REPAIRS = {
    "soft_prompt": {
        "full": True,
        "rates": [0.1, 0.5],
        "sizes": {"5 vectors": {"prompt_tokens": 5}, "2 vectors": {"prompt_tokens": 2}},
    },
    "lora": {"full": True, "rates": [0.01], "sizes": {"1@qv": {"rank": 1}, "2@all": {"rank": 2, "targets": MATRICES}}},
    "sink": {"sizes": {"one token": {}}},
}


def params(**profile: Any) -> dict[str, Any]:
    """``params.yaml`` of such a study; sections of its profile may be given, as far as they differ."""
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    raw["models"] = {"own": {"source": "own"}, "other": {"source": "other"}}
    raw["corpora"]["sources"] = {name: {"files": {"train": f"text/{name}-*.txt"}} for name in ("broad", "narrow")}
    raw["corpora"] |= {"shortest_document": 10, "held_out": 0.2}
    training = {"steps": 4, "batch_windows": 2, "learning_rate": 0.1, "warmup_steps": 1, "validate_every": 2}
    small = raw["profiles"]["embedded"]
    levels = profile.pop("levels", LEVELS)
    small |= {"models": ["own"], "corpora": ["broad", "narrow"], "levels": levels}
    small["compression"] |= {"corpus": "broad", "windows": 4, "window": 24, "block_size": 16}
    small["soft_prompt"] |= {"corpus": "broad", "prompt_tokens": 5, "seeds": [0, 1], "training": training}
    small["evaluation"] = {"window": 24, "windows": {"validation": 4, "test": 4}}
    small["hard_prompt"] |= {"items": 8, "context": 12, "continuation": 6, "show": 1}
    small["cross_dataset"] = {"levels": levels, "seeds": [0]}
    small["cross_compression"] = {"seeds": [0, 1]}
    small["tasks"] |= {"names": ["piqa"], "items": 8, "levels": levels, "seeds": [0]}
    small["comparison"] = {"levels": levels, "seeds": [0], "repairs": REPAIRS, "further_rates": 1, "compressors": []}
    small["knowledge"] = {"relations": ["continent"], "items": 8, "written": 8, "levels": levels[:2], "methods": ["soft_prompt"]}
    small["knowledge"]["smaller"] = {"own": "other"}
    small["another_model"] = {"pairs": [{"model": "own", "others": ["other"]}], "levels": levels[:2]}
    for name, section in profile.items():
        small[name] = {**small[name], **section} if isinstance(small.get(name), dict) and name != "methods" else section
    return raw


def write(folder: Path, raw: dict[str, Any], family: str = "llama") -> Path:
    """The project's folder: parameters, texts, two models."""
    draw = random.Random(0)
    (folder / "text").mkdir(parents=True, exist_ok=True)
    for corpus in ("broad", "narrow"):
        for number in range(60):
            words = " ".join(draw.choices(WORDS, k=30 + number))
            (folder / "text" / f"{corpus}-{number}.txt").write_text(f"{corpus} {words}.")
    families.save(family, folder / "own")
    families.save(family, folder / "other", seed=1)
    (folder / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    return folder


def write_task(folder: Path, options: list[str]) -> None:
    """A task of one's own in ``folder``, called ``mine``: eight items, whose answers take turns to be right."""
    folder.mkdir(exist_ok=True)
    items = [{"question": "Return the", "options": options, "right": number % 2} for number in range(8)]
    (folder / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    (folder / "mine.yaml").write_text(
        f"""task: mine
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder / "items.jsonl"}}}, cache_dir: {folder / "cache"}}}
test_split: test
output_type: multiple_choice
doc_to_text: question
doc_to_target: right
doc_to_choice: options
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
"""
    )


def asked(folder: Path) -> Study:
    """The study in ``folder``, with a task of one's own that needs no hub, asked of the uncompressed model and at 50 %."""
    write_task(folder / "tasks", ["sum", "mean"])
    return make(folder, tasks={"names": ["mine"], "folder": "tasks", "levels": ["full", "50%"]})


def make(folder: Path, **profile: Any) -> Study:
    """The study in ``folder``, with its corpora built."""
    settings = study.load(write(folder, params(**profile)) / "params.yaml")
    corpora.build(settings.corpora, paths.corpora(settings), root=settings.root)
    return settings
