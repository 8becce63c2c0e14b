"""Facts and the three ways to ask for them: what is asked is true, and nothing but the fact or the passage tells the answer."""

from __future__ import annotations

import random
import re
from collections import Counter

import pytest

from ctp_lib.evaluation import facts_items, tasks
from ctp_lib.text.documents import Document
from ctp_lib.text.facts import RELATIONS

KINDS = {"inner": "once", "outer": "twice"}
DOCUMENTS = [
    Document(f"{library}.{part}_{name}", f"{does}, {KINDS[part]}.\n\nMore of it.")
    for library, names in {
        "numpy": {
            "ravel": "Return a flat view of everything that is inside",
            "argmax": "Find out where the largest value is located",
        },
        "torch": {
            "narrow": "Give back a smaller part of what was given to it",
            "logdet": "Compute how volume changes on a long scale",
        },
        "pandas": {"melt": "Turn a wide table into one with many more rows", "explode": "Make a row out of every entry in a list"},
        "sympy": {
            "apart": "Write a fraction as a sum of simpler ones again",
            "nsimplify": "Find a closed form that is near to a number",
        },
    }.items()
    for name, does in names.items()
    for part in KINDS
]
DOCUMENTS = [Document(f"scipy.learned{number}", "Is read by repairs, and so it is not asked.") for number in range(16)] + DOCUMENTS
TRUE = {
    "capital": {"France": "Paris", "Japan": "Tokyo", "Canada": "Ottawa", "Australia": "Canberra", "Kenya": "Nairobi"},
    "currency": {"Japan": "Yen", "Poland": "Zloty", "India": "Rupee"},
    "continent": {"Brazil": "South America", "Egypt": "Africa", "Poland": "Europe"},
    "element": {"1": "hydrogen", "26": "iron", "79": "gold", "6": "carbon"},
    "symbol": {"iron": "Fe", "gold": "Au", "sodium": "Na"},
}


def made(relation: str, form: str, seed: int = 0) -> list[dict]:
    return facts_items.items(f"{relation}_{form}", DOCUMENTS, seed)


@pytest.mark.parametrize("relation", TRUE)
def test_facts_are_true(relation):
    found = {fact.subject: fact.answer for fact in RELATIONS[relation].facts(relation, [])}
    assert {subject: found.get(subject) for subject in TRUE[relation]} == TRUE[relation]


def test_a_name_that_tells_is_not_asked():
    capitals = {fact.subject for fact in RELATIONS["capital"].facts("capital", [])}
    assert not {"Kuwait", "Singapore", "Mexico", "Serbia and Montenegro"} & capitals and len(capitals) > 100
    symbols = {fact.subject: fact.answer for fact in RELATIONS["symbol"].facts("symbol", [])}
    assert all(name[0] != symbol[0].lower() for name, symbol in symbols.items()) and "carbon" not in symbols


@pytest.mark.parametrize("relation", RELATIONS)
def test_whoever_looks_at_answers_alone_is_at_chance(relation):
    """Any order of preference among answers (their length, their letters, how common they are) is right once in every four items."""
    common = Counter(" ".join(context for item in made(relation, "in_context") for context, _ in facts_items.pairs(item)))
    preferences = [len, hash, lambda answer: sum(common[letter] for letter in answer)]
    for form in facts_items.FORMS:
        items = made(relation, form)
        assert items and len(items) % 4 == 0
        for prefer in preferences:
            chosen = [max(item["answers"], key=lambda answer: (prefer(answer), answer)) for item in items]
            right = [item["answers"][item["label"]] == answer for item, answer in zip(items, chosen, strict=True)]
            assert sum(right) == len(items) / 4


@pytest.mark.parametrize("relation", RELATIONS)
def test_the_three_forms_ask_for_the_same_facts(relation):
    closed, told, misled = (made(relation, form) for form in facts_items.FORMS)
    truth = {fact.subject: fact.answer for fact in RELATIONS[relation].facts(relation, DOCUMENTS)}
    for one, other, third in zip(closed, told, misled, strict=True):
        assert one["fact"] == other["fact"] == third["fact"] and one["answers"] == other["answers"] == third["answers"]
        assert one["answers"][one["label"]] == truth[one["fact"]] and other["label"] == one["label"] == third["true"]
        assert third["label"] != third["true"]
        for (question, text), *told in zip(*map(facts_items.pairs, (one, other, third)), strict=True):
            assert all(context.endswith(f"\n\n{question}") and behind == text for context, behind in told)


@pytest.mark.parametrize("relation", RELATIONS)
@pytest.mark.parametrize("form", ["in_context", "counterfactual"])
def test_a_reader_that_knows_nothing_answers_from_the_passage(relation, form):
    """It finds the statement that names the subject, and takes the answer that stands in it."""
    for item in made(relation, form):
        (context, _), *_ = facts_items.pairs(item)
        passage = context[: context.rindex("\n\n")]
        lines = RELATIONS[relation].statement.format(subject="", answer="").count("\n\n") + 1
        parts = passage.split("\n\n")
        told = ["\n\n".join(parts[first : first + lines]) for first in range(0, len(parts), lines)]
        (line,) = [line for line in told if re.search(rf"(^|\W){re.escape(item['fact'])}($|\W)", line)]
        rest = line.replace(item["fact"], "")
        named = [answer for answer in item["answers"] if re.search(rf"(^|\W){re.escape(answer)}($|\W)", rest)]
        assert item["answers"][item["label"]] in named and len(told) == 4


def test_items_are_drawn_by_their_seed():
    assert made("capital", "closed_book") == made("capital", "closed_book")
    assert made("capital", "closed_book") != made("capital", "closed_book", seed=1)


@pytest.mark.parametrize(
    ("name", "does", "asked"),
    [
        ("numpy.linalg.qr", "Compute the qr factorization of a thing.", False),
        ("pandas.core.isetitem", "Set the given value in the column.", False),
        ("pandas.core._na_op", "Find out what an op gives on the left.", False),
        ("numpy.core.ravel", "Return a flat view of all that is inside.", True),
        ("torch.linalg.det", "Give how volume changes under a map.", True),
    ],
)
def test_a_name_whose_pieces_tell_is_not_asked(name, does, asked):
    found = RELATIONS["function"].facts("function", [Document("a.b", "x"), Document(name, f"{does}\n\nMore.")])
    assert bool(found) == asked


def test_what_repairs_learn_from_is_not_asked():
    asked = "".join(context + text for item in made("library", "in_context") for context, text in facts_items.pairs(item))
    assert "sympy.outer_apart" in asked and "scipy" not in asked


def test_documentation_is_asked_as_it_is_written():
    written = {str(document) for document in DOCUMENTS}
    for item in made("function", "closed_book"):
        context, text = facts_items.pairs(item)[item["label"]]
        assert any(document.startswith(context + text) for document in written)


def test_a_subject_with_two_answers_is_not_asked():
    facts = [facts_items.Fact("r", str(number // 2 if number < 2 else number), f"a{number}") for number in range(10)]
    asked = {fact.subject for four in facts_items.fours(facts, 0) for fact in four}
    assert "0" not in asked and len(asked) == 8


def test_fours_use_nearly_all_facts_and_repeat_no_answer():
    draw = random.Random(0)
    facts = [facts_items.Fact("r", str(number), draw.choice("aaaabbbccd")) for number in range(400)]
    found = facts_items.fours(facts, 0)
    rarest = min(Counter(fact.answer for fact in facts).values())
    assert len(found) == rarest and all(len({fact.answer for fact in four}) == 4 for four in found)


def test_they_are_tasks_like_any_other(tmp_path):
    first = tasks.write("capital_counterfactual", [], tmp_path, items=8, seed=0)
    assert first["label"] != first["true"] and (tmp_path / "capital_counterfactual.yaml").exists()
    with pytest.raises(ValueError, match="tasks.items is 400; the documents give"):
        tasks.write("symbol_closed_book", [], tmp_path, items=400, seed=0)
