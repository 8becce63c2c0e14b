"""Zero-shot tasks through lm-eval, with or without a stitched prompt, on the same items in the same window."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from ctp_lib.evaluation.documentation_tasks import CHOICES, MAKERS
from ctp_lib.evaluation.subject import Subject
from ctp_lib.settings.spec import ParameterError


@dataclass(frozen=True)
class TaskScore:
    """One model on one task: whether each item (by lm-eval's number of it) was answered right, by ``metric``.

    ``unit`` items in a row share their choices, and are one independent observation. ``chance`` is the share that guessing gets right.
    """

    task: str
    metric: str
    correct: tuple[bool, ...]
    unit: int = 1
    chance: float = 0.0

    @property
    def units(self) -> tuple[float, ...]:
        """Share of items answered right in every unit."""
        cut = range(0, len(self.correct), self.unit)
        return tuple(statistics.fmean(self.correct[first : first + self.unit]) for first in cut)

    @property
    def value(self) -> float:
        """Share of items answered right."""
        return statistics.fmean(self.correct)

    @property
    def stderr(self) -> float:
        """Standard error of that share over independent units."""
        return statistics.stdev(self.units) / math.sqrt(len(self.units))

    def record(self) -> dict[str, Any]:
        """All of it by the names of ``results/tasks.csv``, and the share of right answers in every unit."""
        found = {"value": self.value, "stderr": self.stderr, "n": len(self.correct), "units": self.units}
        return {"task": self.task, "metric": self.metric, **found, "chance": self.chance}


def evaluate(
    subject: Subject,
    tokenizer: PreTrainedTokenizerBase,
    tasks: Sequence[str],
    folders: Sequence[Path],
    *,
    max_length: int,
    tokens_at_once: int,
    limit: int | None = None,
) -> list[TaskScore]:
    """Accuracy on ``tasks``: lm-eval's own names, or those whose YAML lies in one of ``folders``; at most ``limit`` items of each.

    ``max_length`` counts real tokens, of which ``tokens_at_once`` go through the model together; a prompt's come on top, and have to fit the
    model's context too. Raises :class:`ParameterError` for an unknown task and for one whose answers do not fit.
    """
    from lm_eval import simple_evaluate  # slow to import, and only this needs it
    from lm_eval.tasks import TaskManager

    from ctp_lib.evaluation.stitched_lm import StitchedLM

    others = not set(tasks) <= set(MAKERS)  # reading all that lm-eval has takes seconds
    manager = TaskManager(include_path=[str(folder) for folder in folders], include_defaults=others)
    for task in tasks:
        if task not in manager.all_tasks:
            raise ParameterError(f"tasks.names has {task!r}, which lm-eval does not know; `lm_eval ls tasks` lists what it does")
    lm = StitchedLM(subject, tokenizer, max_length=max_length, tokens_at_once=tokens_at_once)
    try:
        found = simple_evaluate(lm, tasks=list(tasks), task_manager=manager, limit=limit, bootstrap_iters=0)
    except AssertionError:  # all that lm-eval says of a row whose answer alone overflows the window
        long = f"an answer in {', '.join(tasks)} is longer than the window of {max_length} tokens"
        raise ParameterError(f"{long}; take a model with more context") from None
    return [_score(task, samples) for task, samples in found["samples"].items()]


def _score(task: str, samples: list[dict]) -> TaskScore:
    ordered = sorted(samples, key=lambda sample: sample["doc_id"])
    metric = "acc_norm" if "acc_norm" in ordered[0] else "acc"
    fractions = [sample[metric] for sample in ordered if sample[metric] not in (0, 1)]
    if fractions:  # as truthfulqa_mc2 has it: any share above zero would count as right
        wrong = f"tasks.names has {task!r}, whose {metric} is {fractions[0]:.3g} on an item"
        raise ParameterError(f"{wrong}; take tasks that are right or wrong")
    unit = CHOICES if task in MAKERS else 1
    chance = statistics.fmean(1 / max(1, len(sample["arguments"])) for sample in ordered)
    return TaskScore(task, metric, tuple(bool(sample[metric]) for sample in ordered), unit, chance)
