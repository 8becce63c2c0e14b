"""Where each thing of a study lies: under the study's name, the model's, and the level's slug."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from ctp_lib.settings import models
from ctp_lib.settings.levels import Level
from ctp_lib.settings.study import Study

LEARNED = "learned.json"
"""In the folder of what was learned: by what, and how the training went."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Where to write the file or folder ``path``: it takes the place of an older one when it is complete, and not after an error or a kill."""
    incoming = path.with_name(f"{path.name}.incoming")
    remove(incoming)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield incoming
    except BaseException:
        remove(incoming)  # on a full disk, room for what is small
        raise
    if path.is_dir():
        shutil.rmtree(path)
    os.replace(incoming, path)


def in_turn(path: Path) -> FileLock:
    """Lets one process at a time make the file or folder ``path``, which several stages need: those that waited find it made."""
    return FileLock(f"{path}.lock")


def remove(path: Path) -> None:
    """Take a file or a folder away, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def corpora(settings: Study) -> Path:
    """Where the documents of all corpora lie."""
    return settings.root / "data" / settings.study.name / "corpora"


def tasks(settings: Study) -> Path:
    """Where the tasks made from documentation lie: `lm_eval --include_path` finds them here."""
    return settings.root / "data" / settings.study.name / "tasks"


def known(settings: Study, model: str) -> Path:
    """What the uncompressed model predicts of the study's text."""
    return settings.root / "data" / settings.study.name / "known" / models.slug(model)


def compressed(settings: Study, model: str, level: Level) -> Path:
    """A compressed copy of a model, a plain Hugging Face folder with a manifest."""
    return _models(settings) / "compressed" / models.slug(model) / level.slug


def learned(settings: Study, model: str, level: Level, method: str, seed: int) -> Path:
    """What a method learned on a model at a level, on the study's broad corpus."""
    return _models(settings) / "learned" / models.slug(model) / level.slug / method / f"seed-{seed}"


def shipped_prompt(settings: Study, model: str, level: Level) -> Path:
    """A prompt that ships with the project, as a PEFT adapter."""
    return settings.root / "models" / "prompts" / models.slug(model) / level.slug


def learned_for(settings: Study, question: str, model: str, level: Level, *what: object, seed: int) -> Path:
    """What was learned for one question alone: on another corpus, with other settings."""
    return _models(settings) / question / models.slug(model) / level.slug / models.slug("-".join(map(str, what))) / f"seed-{seed}"


def compared(settings: Study, model: str, level: Level, method: str) -> Path:
    """What a method learned for the comparison of all repairs, at every size and rate."""
    return _models(settings) / "comparison" / models.slug(model) / level.slug / method


def comparison(settings: Study, model: str, level: Level, method: str) -> Path:
    """What that was scored to be."""
    return results(settings) / "comparison" / models.slug(model) / level.slug / f"{method}.json"


def knowledge(settings: Study, model: str, level: Level, method: str) -> Path:
    """What a model at a level knew, and what it read, with a method."""
    return results(settings) / "knowledge" / models.slug(model) / level.slug / f"{method}.json"


def audited(settings: Study, model: str, level: Level) -> Path:
    """What LLM-KICK's released metrics say of a model at a level."""
    return results(settings) / "audited" / models.slug(model) / f"{level.slug}.json"


def checkpoint(settings: Study, goal: Path) -> Path:
    """The state of the unfinished training of what will lie in ``goal``; gone when that is there."""
    name = "-".join(goal.relative_to(_models(settings)).parts)
    return _models(settings) / "checkpoints" / f"{name}.safetensors"


def cost_of(settings: Study, goal: Path) -> Path:
    """What it took to make ``goal``: seconds, which change with every run, lie apart from numbers."""
    inside = goal.relative_to(_models(settings)) if goal.is_relative_to(_models(settings)) else goal.relative_to(results(settings))
    return results(settings) / "costs" / inside.with_suffix(".json" if goal.suffix == ".json" else f"{goal.suffix}.json")


def results(settings: Study) -> Path:
    """The tables of a study, and beside them the cells they were made of."""
    return settings.root / "results" / settings.study.name


def score(settings: Study, model: str, level: Level, method: str) -> Path:
    """What a method at a level was scored to be."""
    return results(settings) / "scores" / models.slug(model) / level.slug / f"{method}.json"


def reached(settings: Study, model: str, level: Level) -> Path:
    """What compression reached, matrix by matrix, and the bits it takes."""
    return results(settings) / "compression" / models.slug(model) / f"{level.slug}.json"


def question(settings: Study, name: str, model: str) -> Path:
    """The numbers behind the answer to one question."""
    return results(settings) / name / f"{models.slug(model)}.json"


def claim(settings: Study, model: str, name: str) -> Path:
    """The verdict on one claim."""
    return results(settings) / "claims" / models.slug(model) / f"{name}.json"


def table(settings: Study, name: str, model: str) -> Path:
    """A tidy table of one model."""
    return results(settings) / name / f"{models.slug(model)}.csv"


def figures(settings: Study, model: str) -> Path:
    """The figures of one model."""
    return settings.root / "figures" / settings.study.name / models.slug(model)


def recorded(settings: Study, name: str) -> Path:
    """A run that is kept under ``name``; see :mod:`ctp_lib.results.recorded`."""
    return settings.root / "results" / "recorded" / name


def _models(settings: Study) -> Path:
    return settings.root / "models" / settings.study.name
