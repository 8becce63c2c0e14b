"""One JSON a cell, with provenance; cells -> tidy tables.

A *cell* is one run of one notebook. Its JSON holds what was asked, what was measured (rows), what it cost and where it ran.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from ctp_lib import places, study
from ctp_lib.study import ParameterError, Study

RECORDED_PACKAGES = ("torch", "transformers", "llmcompressor", "compressed-tensors", "peft", "tokenizers", "numpy")

PERPLEXITY_COLUMNS = [
    "model", "level", "method", "trained_on", "trained_at_level", "evaluated_on", "split", "nll", "ppl", "ppl_released",
    "tokens_scored", "window", "prompt_tokens", "trainable_parameters", "prompt_kind", "point", "learning_rate", "seed",
]  # fmt: skip
COST_COLUMNS = [
    "model", "level", "method", "trained_on", "work", "seconds", "tokens", "tokens_per_second", "peak_memory_bytes",
    "bits_per_weight", "point", "learning_rate", "seed",
]  # fmt: skip
CURVE_COLUMNS = ["model", "level", "method", "trained_on", "step", "tokens", "training_loss", "validation_nll", "seed"]

TASK_COLUMNS = ["model", "level", "method", "trained_on", "trained_at_level", "task", "metric", "value", "stderr", "n", "seed"]
TABLES = {"perplexity": PERPLEXITY_COLUMNS, "cost": COST_COLUMNS, "curve": CURVE_COLUMNS, "tasks": TASK_COLUMNS}
"""The tidy tables, ``results/<name>.csv``, by the section of the cells that they collect."""

EXPERIMENTS = (
    "compression",
    "soft_prompt",
    "cross_dataset",
    "cross_compression",
    "cross_task",
    "comparison",
    "metric_audit",
    "another_model",
)
"""Whose cells they collect."""


@dataclass
class Cost:
    """What a piece of work took; ``seconds`` and ``peak_memory_bytes`` are filled in when it ends."""

    work: str
    tokens: int = 0
    seed: int | None = None
    seconds: float = 0.0
    peak_memory_bytes: int = 0

    def record(self) -> dict[str, Any]:
        """The figures by the names of ``results/cost.csv``."""
        speed = self.tokens / self.seconds if self.seconds else 0.0
        return {**vars(self), "tokens_per_second": speed}


@contextmanager
def measured(work: str, tokens: int = 0, seed: int | None = None) -> Iterator[Cost]:
    """Time the block and take the peak of memory, in bytes.

    On CUDA that is what torch allocated during the block; on CPU what the process held at most since it began, imports included.
    """
    cost = Cost(work, tokens, seed)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    yield cost
    cost.seconds = time.perf_counter() - started
    cost.peak_memory_bytes = _peak_memory()


def write_cell(path: Path, cell: dict[str, Any], **sections: Any) -> None:
    """Write one cell's JSON: ``cell`` says what was asked, ``sections`` what came of it; provenance is added."""
    content = {"cell": cell, **sections, "provenance": provenance()}
    with places.replacing(path) as incoming:
        incoming.write_text(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def read_cell(path: Path) -> dict[str, Any]:
    """One cell. Raises :class:`ParameterError` when its file is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ParameterError(f"{path} is not there; run `dvc repro`") from None
    except json.JSONDecodeError as error:
        raise ParameterError(f"{path} is damaged ({error}); delete it and run `dvc repro`") from None


def read_cells(settings: Study, model: str, *experiments: str) -> list[dict[str, Any]]:
    """All cells of a model in these experiments, those of single levels in the study's order."""
    cells = []
    for experiment in experiments:
        whole = places.model_path(settings, experiment, model)
        paths = [whole] if whole.exists() else [places.cell_path(settings, experiment, model, level) for level in settings.levels]
        cells += [read_cell(path) for path in paths]
    return cells


def read_all_cells(settings: Study) -> list[dict[str, Any]]:
    """The cells of every model of the study, in every experiment that was run."""
    ran = [
        (name, kind)
        for name in settings.study.models
        for kind in EXPERIMENTS
        if places.model_path(settings, kind, name).with_suffix("").exists() or places.model_path(settings, kind, name).exists()
        if kind != "another_model" or settings.another_model.asks_of(name)  # else it is of another study
    ]
    return [cell for name, kind in ran for cell in read_cells(settings, name, kind)]


def rows(cells: list[dict[str, Any]], section: str = "perplexity") -> list[dict[str, Any]]:
    """The rows of one section of all cells, each with its cell's fields where it has none of its own."""
    return [{**cell["cell"], **row} for cell in cells for row in cell.get(section, [])]


def table(cells: list[dict[str, Any]], section: str, columns: list[str]) -> pd.DataFrame:
    """The rows of one section of all cells, each with its cell's fields, but for those that are ``reused`` from another cell; in
    ``columns``, missing ones empty.
    """
    return pd.DataFrame([row for row in rows(cells, section) if not row.get("reused")]).reindex(columns=columns)


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a tidy table, with its index, in six digits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, float_format="%.6g")


def write_page(text: str, path: Path) -> None:
    """Write a page of Markdown."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n", encoding="utf-8")


def write_summary(ledger: pd.DataFrame, settings: Study) -> None:
    """``results/summary.json``, what `dvc metrics show` prints: verdicts, and the share that the prompt recovers at every level."""
    summary = {
        model: {
            "verdicts": dict(zip(rows.claim, rows.verdict, strict=True)),
            "recovered": json.loads(
                pd.read_csv(places.table_path(settings, "recovery", model), index_col="level")
                .recovered.drop("full")
                .round(4)
                .to_json()
            ),
        }
        for model, rows in ledger.groupby("model", sort=False)
    }
    (settings.root / "results" / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")


def provenance() -> dict[str, Any]:
    """Where and with what this process runs."""
    return {
        "commit": _git("rev-parse", "HEAD"),
        "dirty": bool(_git("status", "--porcelain", "--untracked-files=no", "--", "ctp_lib", "notebooks", "params.yaml")),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "packages": {name: importlib.metadata.version(name) for name in RECORDED_PACKAGES},
    }


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=study.root(), capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()


def _peak_memory() -> int:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
