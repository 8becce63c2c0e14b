"""The same facts asked in three ways: from memory, with a passage that tells them, and with one that tells something else.

``closed_book``: the question alone. ``in_context``: behind a passage that states the fact among three others. ``counterfactual``: behind a
passage that gives each of the four subjects the answer of another one. There, what the passage says counts as right, which tells reading
from remembering. Four facts share their answers, each of which is right once, so an answer alone gives nothing away.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ctp_lib.text.documents import Document
from ctp_lib.text.facts import RELATIONS, Fact

FORMS = ("closed_book", "in_context", "counterfactual")
CHOICES = 4
TASKS = {f"{relation}_{form}": (relation, form) for relation in RELATIONS for form in FORMS}
"""By name, ``capital_closed_book`` and so on."""


def items(name: str, documents: Iterable[Document], seed: int) -> list[dict[str, Any]]:
    """The items of task ``name``, as :data:`ctp_lib.evaluation.tasks.Item` has them, with ``fact``, the subject, and ``answers``; where a
    passage misleads, also the ``true`` choice. Items of one relation and seed stand in the same order in all three forms.
    """
    relation, form = TASKS[name]
    found = []
    for four in fours(RELATIONS[relation].facts(relation, documents), seed):
        found += [_item(fact, four, form, random.Random(f"{seed} {relation} {fact.subject}")) for fact in four]
    return found


def pairs(item: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A context and what is scored behind it, for every choice."""
    if "text" in item:
        return [(choice, item["text"]) for choice in item["choices"]]
    return [(item["context"], f" {choice}") for choice in item["choices"]]


def fours(facts: Sequence[Fact], seed: int) -> list[tuple[Fact, ...]]:
    """Facts in fours of one group, with four different answers, in a drawn order. Commonest answers are dealt first, so that few facts are left
    over. A subject that has two answers is left out.
    """
    draw, known, groups, found = random.Random(seed), Counter(fact.subject for fact in facts), defaultdict(list), []
    for fact in facts:
        if known[fact.subject] == 1:
            groups[fact.group].append(fact)
    for group in sorted(groups):
        draw.shuffle(groups[group])
        by_answer: dict[str, list[Fact]] = defaultdict(list)
        for fact in groups[group]:
            by_answer[fact.answer].append(fact)
        while len(by_answer) >= CHOICES:
            longest = sorted(by_answer, key=lambda answer: -len(by_answer[answer]))[:CHOICES]
            found.append(tuple(by_answer[answer].pop() for answer in longest))
            by_answer = {answer: left for answer, left in by_answer.items() if left}
    draw.shuffle(found)
    return found


def _item(fact: Fact, four: Sequence[Fact], form: str, draw: random.Random) -> dict[str, Any]:
    relation, place = RELATIONS[fact.relation], four.index(fact)
    shift = 1 if form == "counterfactual" else 0
    told = {one.subject: four[(number + shift) % CHOICES].answer for number, one in enumerate(four)}
    answers = [one.answer for one in four]
    draw.shuffle(answers)
    stated = [relation.statement.format(subject=subject, answer=answer) for subject, answer in told.items()]
    draw.shuffle(stated)
    passage = "" if form == "closed_book" else "".join(f"{statement}\n\n" for statement in stated)
    label, true = answers.index(told[fact.subject]), {"true": answers.index(fact.answer)} if shift else {}
    asked = [passage + relation.context.format(subject=fact.subject, answer=answer) for answer in answers]
    scored = [relation.scored.format(subject=fact.subject, answer=answer) for answer in answers]
    texts = {"text": scored[place], "choices": asked} if relation.one_text else {"context": asked[place], "choices": answers}
    return {**texts, "label": label, **true, "fact": fact.subject, "answers": answers}
