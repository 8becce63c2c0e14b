"""Cells -> tidy tables: ``perplexity.csv``, ``tasks.csv``, ``cost.csv`` and ``curve.csv`` of a study, a row a measurement."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from ctp_lib.results import cells, curves
from ctp_lib.settings import paths
from ctp_lib.settings.study import Study

COLUMNS = {
    "perplexity": [
        "model", "level", "method", "trained_on", "trained_at_level", "evaluated_on", "split", "nll", "ppl", "ppl_released",
        "tokens_scored", "window", "prompt_tokens", "trainable_parameters", "prompt_kind", "point", "learning_rate", "seed",
        "bytes_added", "kl",
    ],
    "cost": [
        "model", "level", "method", "trained_on", "work", "seconds", "tokens", "tokens_per_second", "peak_memory_bytes",
        "bits_per_weight", "point", "learning_rate", "seed",
    ],
    "curve": ["model", "level", "method", "trained_on", "step", "tokens", "training_loss", "validation_nll", "seed"],
    "tasks": ["model", "level", "method", "trained_on", "trained_at_level", "task", "metric", "value", "stderr", "n", "seed", "chance"],
}  # fmt: skip
"""By table; a new column stands at the end."""
QUESTIONS = ("cross_dataset", "cross_compression", "cross_task", "carried", "metric_audit", "another_model")
"""Whose cells hold rows of their own, beside the scores of every level."""


def collect(settings: Study, section: str) -> pd.DataFrame:
    """One table: of the models, levels and methods of the study, whatever else lies about."""
    rows = [row for row in _collected(settings, section) if not row.get("reused")]
    return pd.DataFrame(rows).reindex(columns=COLUMNS[section])


def write(table: pd.DataFrame, path: Path, *, index: bool = True) -> None:
    """Write a tidy table in six digits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, float_format="%.6g", index=index)


def write_text(text: str, path: Path) -> None:
    """Write a page, or JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n", encoding="utf-8")


def _collected(settings: Study, section: str) -> list[dict[str, Any]]:
    if section == "cost":
        return _with_bits(settings, cells.rows(list(_costs(settings)), section))
    if section == "curve":
        return [row for model in settings.study.models for row in curves.of_study(settings, model, settings.methods, settings.levels)]
    asked = [path for model in settings.study.models for path in _cells(settings, model, section)]
    return cells.rows([cells.read(path) for path in asked if path.exists()], section)


def _cells(settings: Study, model: str, section: str) -> Iterator[Path]:
    """Where a model's scores lie, and the answers to those questions that are asked about it."""
    if section == "perplexity":
        yield from (paths.score(settings, model, level, "none") for level in settings.compressed)
        yield from (paths.score(settings, model, level, name) for name in settings.methods for level in settings.levels)
    yield from (paths.comparison(settings, model, level, method) for level, method in settings.compared)
    for name in QUESTIONS:
        if name != "another_model" or settings.another_model.of(model):
            yield paths.question(settings, name, model)


def learning_costs(settings: Study, model: str, method: str) -> pd.DataFrame:
    """What it took to learn each of the study's own of ``method``: level, work, seconds."""
    every = itertools.product(settings.levels, settings.soft_prompt.seeds)
    goals = [paths.learned(settings, model, level, method, seed) for level, seed in every]
    return pd.DataFrame(cells.rows([cells.read(paths.cost_of(settings, goal)) for goal in goals], "cost"))


def _costs(settings: Study) -> Iterator[dict[str, Any]]:
    """All that was paid for on the study's models, in the order of work."""
    for kind in ("compressed", "learned", "scores", "direct", "comparison"):
        for path in sorted((paths.results(settings) / "costs" / kind).rglob("*.json")):
            found = cells.read(path)
            model, level, method = (found["cell"].get(name, "none") for name in ("model", "level", "method"))
            asked = method in ("none", *settings.methods) or kind == "comparison"
            if model in settings.study.models and level in map(str, settings.compressed) and asked:
                yield found


def _with_bits(settings: Study, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    levels = {str(level): level for level in settings.compressed}
    for row in rows:
        reached = paths.reached(settings, row["model"], levels[row["level"]])
        row["bits_per_weight"] = cells.read(reached)["reached"]["bits_per_weight"] if reached.exists() else None
    return rows
