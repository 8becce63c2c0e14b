"""Three zero-shot tasks made from documentation by code, as lm-eval tasks of four choices each.

| task | asks | documents | stands for |
|---|---|---|---|
| continuation | how a text goes on | test split | HellaSwag |
| summary | which summary a body belongs to | test split | OpenBookQA |
| recall | which function does this, closed book | *train* split | LLM-KICK's point: what the model once knew |

The four choices of an item are the right answers of four items of one group, so nothing about a choice alone (length, letter case,
frequent words) tells which one is right: every choice is right exactly once.
"""

import json
import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from ctp_lib.settings.spec import ParameterError
from ctp_lib.text.documents import Document

CHOICES = 4
CONTEXT, ENDING = 240, 80
"""Characters of what is read, at most, and of what follows, in the continuation task; an ending has exactly as many."""
BODY = 160
"""Characters of the body in the summary task."""

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
        if _is_summary(head) and len(body) == BODY:
            found.append((str(len(head) // 8), body, head))
    return _fours("text", found, seed)


def recall(documents: Iterable[Document], seed: int) -> list[Item]:
    """Choose the name, out of four of one package, after which the summary is likeliest.

    Only where the name and the summary share no word, so that reading alone does not answer it; and from the second half of
    ``documents`` alone, because calibration and prompts read the first.
    """
    documents, found = list(documents), []
    for document in documents[len(documents) // 2 :]:
        head = document.text.partition("\n\n")[0]
        if _is_summary(head) and "." in document.name and not _share_a_word(document.name, head):
            found.append((document.name.partition(".")[0], head, document.name))
    return _fours("text", found, seed)


MAKERS: dict[str, tuple[Callable[[Iterable[Document], int], list[Item]], str]] = {
    "documentation_continuation": (continuation, "test"),
    "documentation_summary": (summary, "test"),
    "documentation_recall": (recall, "train"),
}
"""By name: what makes the task, and the split it is made from."""


def write(name: str, documents: Iterable[Document], folder: Path, *, items: int, seed: int) -> Item:
    """Write ``<name>.jsonl`` and ``<name>.yaml`` and return the first item; `lm_eval --include_path <folder>` finds them too.

    Raises :class:`ParameterError` when the documents give fewer than ``items``.
    """
    made = MAKERS[name][0](documents, seed)
    if len(made) < items:
        raise ParameterError(f"tasks.items is {items}; the documents give {len(made)} of {name}, so ask for no more than that")
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / f"{name}.jsonl"
    data.write_text("".join(json.dumps(item) + "\n" for item in made[:items]), encoding="utf-8")
    with (folder / f"{name}.yaml").open("w", encoding="utf-8") as file:
        YAML().dump(_configuration(name, data, one_text="text" in made[0]), file)
    return made[0]


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
        "target_delimiter": "\n\n" if one_text else " ",
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


def _is_summary(head: str) -> bool:
    return 30 <= len(head) <= 110 and "\n" not in head and head[0].isupper() and head[-1] == "." and head[1:2].islower()


def _share_a_word(name: str, summary: str) -> bool:
    """Whether a word of four letters or more of one stands in the other, by its first four letters, letter case aside."""
    joined, lowered = "".join(re.findall(r"[a-z]+", name.lower())), summary.lower()
    in_name, in_summary = re.findall(r"[A-Z]?[a-z]{3,}|[A-Z]{3,}", name), re.findall(r"[a-z]{4,}", lowered)
    return any(word.lower()[:4] in lowered for word in in_name) or any(word[:4] in joined for word in in_summary)
