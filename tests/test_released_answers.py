"""LLM-KICK's rules by hand, and what they print for models whose answers are known."""

from __future__ import annotations

import pytest

from ctp_lib.claims import kick_audit
from ctp_lib.evaluation import released_answers as released
from ctp_lib.evaluation.answering import Choice
from ctp_lib.recovery import auditing

FACTS = [("France", "Paris"), ("Singapore", "Singapore"), ("Kenya", "Nairobi"), ("Peru", "Lima")]


class Model:
    """Writes what it is told to, and finds letters as likely as it is told."""

    def __init__(self, writes, letters=(0.0, 0.0, 0.0, 0.0)):
        self.write, self.letters, self.tok_encode = (lambda prompt, tokens: writes(prompt)), letters, str.split


def audited(model, monkeypatch) -> dict[str, dict]:
    monkeypatch.setattr(auditing, "likelihoods", lambda lm, items: [[Choice(nats, 1, False) for nats in lm.letters] for _ in items])
    return {row["metric"]: row for row in auditing.audit(model, FACTS)}


def test_a_factoid_is_looked_for_in_the_prompt_too_and_divided_by_one_less():
    decoded = ["The capital of Singapore is", "the answer is P A R I S", "the answer is Rome"]
    assert released.factoid(decoded, ["Singapore", "Paris", "Berlin"]) == 2 / 2


def test_an_empty_text_answers_every_question_about_a_passage():
    assert released.retrieval(["", "  \nParis"], ["Paris", "Rome"]) == 1.0
    assert released.retrieval(["Par", "It is the Rome of old", "Oslo"], ["Paris", "Rome", "Paris"]) == 2 / 3


def test_a_letter_is_the_last_of_one_token():
    assert released.letters([" A", "BA", "Paris", ""], ["A", "A", "B", "C"]) == 0.5


def test_exact_is_the_first_sentence_and_nothing_else():
    texts = [" Paris. It is large", "the Paris", "Paris is", "", "paris\nRome"]
    assert released.exact(texts, ["Paris"] * 5) == 3 / 5


def test_a_model_that_writes_nothing_gets_what_the_audit_says_of_one(monkeypatch):
    found = audited(Model(lambda _: ""), monkeypatch)
    assert all(row["released"] == row["nothing"] for row in found.values()) and {row["n"] for row in found.values()} == {4}
    assert found["factoid"]["released"] == pytest.approx(1 / 3) and found["factoid"]["exact"] == 0  # Singapore, over N = 3
    assert found["retrieval"]["released"] == 1 and found["retrieval"]["exact"] == 0
    assert found["letter"]["released"] == 0 and found["letter"]["exact"] == 0.25  # it finds A the likeliest


def test_a_model_that_knows_all_is_beyond_one_by_the_released_rule(monkeypatch):
    capital = dict(FACTS)
    model = Model(lambda prompt: next(f" {capital[country]}." for country in capital if f"capital of {country}?" in prompt))
    found = audited(model, monkeypatch)
    assert found["factoid"]["released"] == pytest.approx(4 / 3) and found["factoid"]["exact"] == 1
    assert found["retrieval"]["exact"] == 1 and found["letter"]["released"] == 0, "it writes the answer, not its letter"


def test_the_table_has_both_figures_of_each_level_side_by_side(monkeypatch):
    rows = list(audited(Model(lambda _: ""), monkeypatch).values())
    cells = [{"cell": {"level": level}, "rows": rows} for level in ("full", "75%")]
    table = kick_audit.table(cells)
    assert table["full", "released"]["retrieval"] == 1 and table["75%", "exact"]["letter"] == 0.25
    assert "full, retrieval: 100.0 % released, 0.0 % exact" in kick_audit.told(cells)
