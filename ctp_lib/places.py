"""Where each thing of the study lies."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ctp_lib.study import Level, Study


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Where to write the file or folder ``path``, of which there is nothing yet: it takes the place of an older one when it is complete.

    After an error, or a kill, the older one is as it was.
    """
    incoming = path.with_name(f"{path.name}.incoming")
    _remove(incoming)
    path.parent.mkdir(parents=True, exist_ok=True)
    yield incoming
    if path.is_dir():
        shutil.rmtree(path)
    os.replace(incoming, path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def corpora_folder(settings: Study) -> Path:
    """Where the documents of all corpora lie."""
    return settings.root / "data" / "corpora"


def tasks_folder(settings: Study) -> Path:
    """Where the tasks made from documentation lie: `lm_eval --include_path` finds them here."""
    return settings.root / "data" / "tasks"


def compressed_folder(settings: Study, model: str, level: Level) -> Path:
    """A compressed copy of a model, a plain Hugging Face folder with a manifest."""
    return settings.root / "models" / "compressed" / file_name(model) / str(level)


def prompt_folder(settings: Study, model: str, level: Level, seed: int) -> Path:
    """A soft prompt learned on a model at a level on the study's corpus, a PEFT adapter."""
    return settings.root / "models" / "prompts" / file_name(model) / str(level) / f"seed-{seed}"


def direct_prompt_folder(settings: Study, model: str, level: Level, corpus: str, seed: int) -> Path:
    """A soft prompt learned directly on another corpus than the study's."""
    return settings.root / "models" / "direct_prompts" / file_name(model) / str(level) / corpus / f"seed-{seed}"


def checkpoint_path(settings: Study, *what: object) -> Path:
    """The state of an unfinished training of ``what`` (names, levels, seeds); gone when its notebook is finished."""
    return settings.root / "models" / "checkpoints" / f"{file_name('-'.join(map(str, what)))}.safetensors"


def cell_path(settings: Study, experiment: str, model: str, level: Level) -> Path:
    """The JSON of one cell."""
    return settings.root / "results" / experiment / file_name(model) / f"{level}.json"


def model_path(settings: Study, experiment: str, model: str) -> Path:
    """The JSON of an experiment that treats all levels of a model together."""
    return settings.root / "results" / experiment / f"{file_name(model)}.json"


def claim_path(settings: Study, model: str, claim: str) -> Path:
    """The verdict on one claim."""
    return settings.root / "results" / "claims" / file_name(model) / f"{claim}.json"


def figures_folder(settings: Study, model: str) -> Path:
    """The figures of one model."""
    return settings.root / "figures" / file_name(model)


def recorded_folder(settings: Study, name: str) -> Path:
    """A run that is kept under ``name``; see :mod:`ctp_lib.recorded`."""
    return settings.root / "results" / "recorded" / name


def table_path(settings: Study, name: str, model: str) -> Path:
    """A tidy table of one model."""
    return settings.root / "results" / name / f"{file_name(model)}.csv"


def file_name(model: str) -> str:
    """A model's name, folder or hub id as one path component."""
    return model.strip("/").replace("/", "--")
