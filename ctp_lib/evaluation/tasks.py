"""Zero-shot tasks through lm-eval, with or without a prompt, on the same items in the same window; three are made from documentation by code.

| task | asks | documents | stands for |
|---|---|---|---|
| continuation | how a text goes on | test split | HellaSwag |
| summary | which summary a body belongs to | test split | OpenBookQA |
| recall | which function does this, closed book | *train* split | LLM-KICK's point: what the model once knew |

The four choices of an item are the right answers of four items of one group, so nothing about a choice alone (length, letter case,
frequent words) tells which one is right: every choice is right exactly once.
"""

import json
import logging
import math
import random
import re
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from transformers import PreTrainedTokenizerBase

from ctp_lib.evaluation import facts_items
from ctp_lib.evaluation.facts_items import CHOICES
from ctp_lib.evaluation.subject import Subject
from ctp_lib.settings import paths
from ctp_lib.settings.spec import ParameterError, first_line
from ctp_lib.text.documents import Document
from ctp_lib.text.facts import first_sentence, functions

CONTEXT, ENDING = 240, 80
"""Characters of what is read, at most, and of what follows, in the continuation task; an ending has exactly as many."""
BODY = 160  # characters of the body in the summary task
WRITES = ("exact_match", "rougeL")
"""Metrics of what a model writes; guessing gets nothing right."""
METRICS = ("acc_norm", "acc", *WRITES)
"""The first of these that a task has is taken."""

Item = dict[str, Any]
"""``context``, ``choices``, ``label``; in tasks that score one text after each of four contexts, ``text`` in place of ``context``."""


def continuation(documents: Iterable[Document], seed: int) -> list[Item]:
    """Read the beginning of a text up to the end of a sentence; choose the sentence that follows, out of four equally long."""
    return _fours("context", [("", *parts) for document in documents if (parts := _cut(document))], seed)


def summary(documents: Iterable[Document], seed: int) -> list[Item]:
    """Choose the summary, out of four of about equal length, after which the body is likeliest."""
    found = []
    for document in documents:
        head, _, body = document.text.partition("\n\n")
        body = body.strip()[:BODY]
        if first_sentence(document.text) and len(body) == BODY:
            found.append((str(len(head) // 8), f"\n\n{body}", head))
    return _fours("text", found, seed)


def recall(documents: Iterable[Document], seed: int) -> list[Item]:
    """Choose the name, out of four of one package, after which the summary is likeliest.

    Only where the two share no word, so that reading alone does not answer it.
    """
    return _fours("text", [(package, f"\n\n{does}", name) for does, name, package in functions(documents)], seed)


MAKERS: dict[str, tuple[Callable[[Iterable[Document], int], list[Item]], str]] = {
    "documentation_continuation": (continuation, "test"),
    "documentation_summary": (summary, "test"),
    "documentation_recall": (recall, "train"),
    **{name: (partial(facts_items.items, name), "train") for name in facts_items.TASKS},
}
"""By name: what makes the task, and the split it is made from, if from any."""


def write(name: str, documents: Iterable[Document], folder: Path, *, items: int, seed: int) -> Item:
    """Write ``<name>.jsonl`` and ``.yaml`` for lm-eval and return the first item; :class:`ParameterError` for fewer than ``items``."""
    made = MAKERS[name][0](documents, seed)
    if len(made) < items:
        raise ParameterError(f"tasks.items is {items}; the documents give {len(made)} of {name}, so ask for no more than that")
    data = folder / f"{name}.jsonl"
    _write(data, "".join(json.dumps(item) + "\n" for item in made[:items]))
    write_configuration(_configuration(name, data, one_text="text" in made[0]), folder)
    return made[0]


def write_configuration(told: Mapping[str, Any], folder: Path) -> None:
    """Write a task in lm-eval's words into ``folder``."""
    stream = StringIO()
    YAML().dump(dict(told), stream)
    _write(folder / f"{told['task']}.yaml", stream.getvalue())


def _write(path: Path, text: str) -> None:
    """At once, and only where it is not there already: another stage may be reading it."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        with paths.in_turn(path.parent), paths.replacing(path) as incoming:
            incoming.write_text(text, encoding="utf-8")


def _configuration(name: str, data: Path, one_text: bool) -> dict[str, Any]:
    """The task in lm-eval's words; its way to score one text after several contexts is to take the label for the text it reads."""
    reads = (
        {"doc_to_text": "label", "doc_to_target": "text"} if one_text else {"doc_to_text": "{{context}}", "doc_to_target": "label"}
    )
    return {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}, "cache_dir": str(data.parent / ".cache")},
        "test_split": "test",
        "output_type": "multiple_choice",
        **reads,
        "doc_to_choice": "choices",
        "target_delimiter": "" if one_text else " ",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        "metadata": {"version": 1.0},
    }


def _fours(asked: str, found: Iterable[tuple[str, str, str]], seed: int) -> list[Item]:
    """Deal (group, question, answer) into fours of one group; each gives four items that share their choices, in a drawn order."""
    groups: dict[str, dict[str, str]] = defaultdict(dict)
    for group, question, answer in found:
        groups[group][answer] = question
    draw, fours, items = random.Random(seed), [], []
    for group in sorted(groups):
        members = list({question: answer for answer, question in groups[group].items()}.items())  # no answer twice, and no question
        draw.shuffle(members)
        fours += [members[first : first + CHOICES] for first in range(0, len(members) - CHOICES + 1, CHOICES)]
    draw.shuffle(fours)
    for four in fours:
        for question, answer in four:
            choices = [choice for _, choice in four]
            draw.shuffle(choices)
            items.append({asked: question, "choices": choices, "label": choices.index(answer)})
    return items


def _cut(document: Document) -> tuple[str, str] | None:
    text = str(document)
    match = re.compile(r"[.:]\s+(?=[A-Z][a-z])").search(text, CONTEXT)
    if match is None:
        return None
    ending = " ".join(text[match.end() : match.end() + 2 * ENDING].split())[:ENDING]
    return (text[max(0, match.start() + 1 - CONTEXT) : match.start() + 1], ending) if len(ending) == ENDING else None


@dataclass(frozen=True)
class TaskScore:
    """One model on one task: whether each item (by lm-eval's number of it) was answered right, by ``metric``; for ROUGE, how much of it was.

    ``unit`` items in a row share their choices, and are one independent observation. ``chance`` is the share that guessing gets right.
    """

    task: str
    metric: str
    correct: tuple[float, ...]
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
        """Standard error of that share over independent units. Raises :class:`ParameterError` where there is but one."""
        if len(self.units) < 2:
            few = f"task {self.task!r} has too few items ({len(self.correct)})"
            raise ParameterError(f"{few}; its standard error takes {self.unit + 1} or more")
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
    from datasets.exceptions import DatasetGenerationError
    from jinja2 import UndefinedError
    from lm_eval import simple_evaluate  # slow to import, and only this needs it
    from lm_eval.tasks import TaskManager

    from ctp_lib.evaluation.stitched_lm import StitchedLM

    others = not set(tasks) <= set(MAKERS)  # reading all that lm-eval has takes seconds
    manager = TaskManager(include_path=[str(folder) for folder in folders], include_defaults=others)
    for task in tasks:
        if task not in manager.all_tasks:
            raise ParameterError(f"tasks.names has {task!r}, which lm-eval does not know; `lm_eval ls tasks` lists what it does")
    lm = StitchedLM(subject, tokenizer, max_length=max_length, tokens_at_once=tokens_at_once)
    logger, stop = logging.getLogger("lm_eval.api.task"), _Stop()
    logger.addHandler(stop)
    try:
        found = simple_evaluate(lm, tasks=list(tasks), task_manager=manager, limit=limit, bootstrap_iters=0)
    except ParameterError:
        raise
    except (AssertionError, LookupError, TypeError, ValueError, AttributeError, UndefinedError, DatasetGenerationError) as error:
        reason = first_line(error.__cause__ or error)
        raise ParameterError(f"an item of {', '.join(tasks)} cannot be asked: {type(error).__name__}: {reason}") from None
    finally:
        logger.removeHandler(stop)
    return [_score(task, samples) for task, samples in found["samples"].items()]


class _Stop(logging.Handler):
    """Raises :class:`ParameterError` where lm-eval warns that the right answer is none of an item's, and goes on to count it as missed."""

    def emit(self, record: logging.LogRecord) -> None:
        if "Label index" in record.getMessage():
            raise ParameterError(
                f"an item's right answer is none of its answers: {first_line(record.getMessage().partition('Sample:')[2])}"
            )


def _score(task: str, samples: list[dict]) -> TaskScore:
    ordered = sorted(
        (sample for sample in samples if sample.get("filter") == samples[0].get("filter")), key=lambda sample: sample["doc_id"]
    )
    metric = next((name for name in METRICS if name in ordered[0]), None)
    if metric is None:
        raise ParameterError(f"tasks.names has {task!r}, which has none of these metrics: {', '.join(METRICS)}; take another task")
    if metric in WRITES:
        return TaskScore(task, metric, tuple(float(sample[metric]) for sample in ordered))
    for sample in ordered:
        right, number = sample["target"], len(sample["arguments"])
        for one in right if isinstance(right, list) else [right]:
            if not (isinstance(one, str) or (type(one) is int and 0 <= one < number)):
                raise ParameterError(
                    f"item {sample['doc_id']} of {task}: its right answer is {one!r}, and it has {number}, counted from 0"
                )
    fractions = [sample[metric] for sample in ordered if sample[metric] not in (0, 1)]
    if fractions:  # as truthfulqa_mc2 has it: any share above zero would count as right
        wrong = f"tasks.names has {task!r}, whose {metric} is {fractions[0]:.3g} on an item"
        raise ParameterError(f"{wrong}; take tasks that are right or wrong")
    unit = CHOICES if task in MAKERS else 1
    chance = statistics.fmean(1 / max(1, len(sample["arguments"])) for sample in ordered)
    return TaskScore(task, metric, tuple(bool(sample[metric]) for sample in ordered), unit, chance)
