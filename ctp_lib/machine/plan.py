"""``python -m ctp_lib.machine.plan``: what a study takes, before any of it is run: cells, hours, memory and disk, and how workers shorten it.

Work is counted in tokens that go through the model: two floating-point operations forwards for every weight of a matrix, four forwards and back
(Kaplan et al. 2020, section 2.1). Their rate is measured here in seconds, or given. The parts of the study that are small beside these (reading
text, drawing figures, starting Python) are counted by :data:`START`. Expect half as much to twice as much.
"""

import argparse
from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd
import torch

from ctp_lib.machine import preflight
from ctp_lib.machine.ceiling import ceiling, matrix_weights
from ctp_lib.model import loading
from ctp_lib.recovery.base import registry
from ctp_lib.settings import study
from ctp_lib.settings.spec import one_sentence, require
from ctp_lib.settings.study import Study

REACHED = {"train": 0.6, "read": 0.6, "compress": 0.35}
"""The share of the rate of matrix products that each kind of work reached where it was measured (results/benchmarks)."""
START = 8.0
"""Seconds of every cell in which no model works."""
CHOICE, FACT = 40, 400
"""Tokens of a choice of a task with what stands before it, and of a fact in its three forms."""


@dataclass(frozen=True)
class Work:
    """Tokens that a cell trains on, that it reads, and that it reads to compress; behind a prompt, its positions count too."""

    train: int = 0
    read: int = 0
    compress: int = 0

    def __add__(self, other: "Work") -> "Work":
        return Work(self.train + other.train, self.read + other.read, self.compress + other.compress)

    def __rmul__(self, times: int) -> "Work":
        return Work(times * self.train, times * self.read, times * self.compress)

    def seconds(self, weights: int, rate: float) -> float:
        """What it takes a model with so many ``weights`` in matrices, at ``rate`` operations a second."""
        operations = {"train": 4 * self.train, "read": 2 * self.read, "compress": 2 * self.compress}
        return START + sum(weights * count / (rate * REACHED[kind]) for kind, count in operations.items())


def works(settings: Study) -> list[tuple[str, int, Work]]:
    """A stage, the number of its cells for one model, and the work of each; a stage whose cells differ stands there several times."""
    scored, asked, training = _scored(settings), _asked(settings), _training(settings)
    behind = settings.evaluation.window + settings.soft_prompt.prompt_tokens
    levels, seeds = len(settings.levels), len(settings.soft_prompt.seeds)
    methods = registry(settings)
    trained = sum(methods.get(name).trains and not methods.get(name).control for name in settings.methods)
    direct = len(settings.cross_dataset.levels) * (len(settings.corpora.sources) - 1) * len(settings.cross_dataset.seeds)
    carried = levels * (levels - 1) * len(settings.cross_compression.seeds)
    hard, facts = settings.hard_prompt, settings.knowledge
    prompts = len(hard.texts) + len(hard.neutral) + 1
    spec = settings.compression
    found = [
        ("compress", len(settings.compressed), Work(compress=3 * spec.windows * spec.window)),
        ("learn", levels * trained, seeds * training),
        ("learn", levels * (len(settings.methods) - trained), Work()),  # controls
        ("score", len(settings.compressed) + levels * len(settings.methods), seeds * scored),
        ("hard_prompt", 1, Work(read=levels * prompts * hard.items * (hard.context + hard.continuation))),
        ("cross_dataset", 1, direct * (training + scored)),
        ("cross_compression", 1, Work(read=carried * settings.evaluation.windows["test"] * behind)),
        ("cross_task", 1, len(settings.tasks.levels) * (1 + len(settings.tasks.seeds)) * asked),
        ("knowledge", 1, Work(read=len(facts.levels) * len(facts.relations) * facts.items * FACT)),
    ]
    for name, repair in settings.comparison.repairs.items():
        at = sum(1 for _, method in settings.compared if method == name)
        own = len(repair.seeds or settings.comparison.seeds)
        learned = len(repair.rates) + own * len(repair.sizes) - 1 if repair.rates else 0
        found.append(("repair", at, learned * training + own * len(repair.sizes) * scored + asked))
    return found


def _training(settings: Study) -> Work:
    """One training, with its teacher and its validation."""
    spec, window = settings.soft_prompt, settings.evaluation.window
    behind, windows = window + spec.prompt_tokens, spec.training.steps * spec.training.batch_windows
    looked = (spec.training.steps // spec.training.validate_every + 1) * settings.evaluation.windows["validation"]
    taught = windows * window if spec.loss == "distillation" else 0
    return Work(train=windows * behind, read=looked * behind + taught)


def _scored(settings: Study) -> Work:
    """Every corpus once; the uncompressed model reads one of them too."""
    behind = settings.evaluation.window + settings.soft_prompt.prompt_tokens
    return Work(read=(len(settings.corpora.sources) + 1) * settings.evaluation.windows["test"] * behind)


def _asked(settings: Study) -> Work:
    return Work(read=len(settings.tasks.names) * settings.tasks.items * 4 * CHOICE)


def table(settings: Study, rate: float) -> pd.DataFrame:
    """One row a stage, over all models: cells, hours of all and minutes of the longest cell."""
    weights = [matrix_weights(preflight.on_shapes(settings.model(name))) for name in settings.study.models]
    rows = []
    for stage, cells, work in works(settings):
        seconds = [work.seconds(own, rate) for own in weights]
        rows.append((stage, cells * len(weights), cells * sum(seconds) / 3600, max(seconds) / 60))
    total = {"cells": "sum", "hours": "sum", "longest, minutes": "max"}
    return pd.DataFrame(rows, columns=["stage", *total]).groupby("stage", sort=False).agg(total)


def hours(stages: pd.DataFrame, workers: int) -> float:
    """Of the whole study with so many workers: no less than the longest chain of cells, one of each stage."""
    chain = stages["longest, minutes"].sum() / 60
    return max(stages.hours.sum() / workers, chain)


def report(settings: Study, rate: float, workers: Iterable[int] = (1, 2, 4, 8, 16, 64)) -> str:
    """The plan as a page of text."""
    stages = table(settings, rate)
    needed = [preflight.needs(preflight.on_shapes(settings.model(name)), settings) for name in settings.study.models]
    memory, disk = max(size for one in needed for size in one.memory.values()), sum(one.disk for one in needed)
    lines = [f"{settings.study.name}: {', '.join(settings.study.models)}, at {rate / 1e9:,.0f} GFLOP/s of matrix products", ""]
    lines += [stages.round(2).to_string(), ""]
    lines += [
        f"{stages.cells.sum()} cells, {stages.hours.sum():.1f} hours; {memory / 1e9:.1f} GB of memory a cell, {disk / 1e9:.1f} GB on disk"
    ]
    lines += ["with " + ", ".join(f"{number} workers {hours(stages, number):.1f} h" for number in workers)]
    return "\n".join(lines)


@one_sentence()
def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m ctp_lib.machine.plan", description="What does the study take?")
    parser.add_argument(
        "--rate", type=float, help="of matrix products on the machine in question, in TFLOP/s; measured here unless said"
    )
    asked, settings = parser.parse_args(), study.load()
    require(asked.rate is None or asked.rate > 0, "RATE", asked.rate, "more than 0")
    device = loading.device(settings.device)
    dtypes = {settings.model(name).dtype for name in settings.study.models}
    dtype = torch.float32 if device.type == "cpu" else getattr(torch, next(iter(dtypes)))
    print(report(settings, asked.rate * 1e12 if asked.rate else ceiling(dtype, device)))


if __name__ == "__main__":
    main()
