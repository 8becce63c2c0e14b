"""Knowledge or fluency: how facts are asked and counted, and what follows from shares whose truth is known."""

from __future__ import annotations

import dataclasses
import itertools
import zlib

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import small_study
import torch
from test_estimate import row

from ctp_lib.claims import knowledge as claim
from ctp_lib.claims import knowledge_figures
from ctp_lib.evaluation import answering, facts_items, summaries
from ctp_lib.evaluation.stitched_lm import StitchedLM
from ctp_lib.evaluation.subject import Subject
from ctp_lib.model.likelihood import token_nll
from ctp_lib.recovery import comparison, knowing
from ctp_lib.recovery.bench import Bench
from ctp_lib.settings.levels import Level
from ctp_lib.settings.spec import ParameterError
from ctp_lib.text.documents import Document

MARGIN, NATS = 0.02, 0.01


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    return small_study.asked(tmp_path_factory.mktemp("knowledge"))


def test_an_answer_is_the_likeliest_and_exact_if_greedy_writing_begins_with_it(settings):
    """Every choice by itself through the model, without a cache and without a batch."""
    bench = Bench(settings, "own", Level.parse("3bit"))
    items = knowing.asked(settings, "continent")["in_context"]
    lm = StitchedLM(Subject(bench.network), bench.tokenizer, max_length=500, tokens_at_once=512)
    found = answering.likelihoods(lm, items)
    for item, choices in zip(items, found, strict=True):
        nll, greedy = [], []
        for pair in facts_items.pairs(item):
            context, answer = lm._encode_pair(*pair)
            ids = torch.tensor([context + answer])
            nll.append(token_nll(bench.network, ids)[0, -len(answer) :].sum().item())
            predicted = bench.network(input_ids=ids).logits[0, -len(answer) - 1 : -1].argmax(-1)
            greedy.append(predicted.tolist() == answer)
        assert [-one.likelihood for one in choices] == pytest.approx(nll, abs=1e-3)
        assert answering.likeliest(choices) == int(np.argmin(nll)) and [one.greedy for one in choices] == greedy


def test_a_passage_that_does_not_fit_is_refused(settings):
    bench = Bench(settings, "own", Level.parse("3bit"))
    lm = StitchedLM(Subject(bench.network), bench.tokenizer, max_length=20, tokens_at_once=512)
    with pytest.raises(ParameterError, match="a question about '.*' does not fit into the 20 tokens that this model reads; leave"):
        answering.likelihoods(lm, knowing.asked(settings, "continent")["in_context"])


def test_items_are_counted_by_hand():
    items = [{"label": 0, "true": 1}, {"label": 1, "true": 2}, {"label": 2, "true": 0}, {"label": 3, "true": 1}] * 2
    given = [(0, True), (2, False), (2, False), (3, True), (0, False), (0, False), (0, False), (1, False)]
    choices = [[answering.Choice(-1.0 * (n != one), 1, exact and n == one) for n in range(4)] for one, exact in given]
    found = knowing.counted(items, choices)
    assert found["units"] == [0.75, 0.25] and found["value"] == 0.5 and found["n"] == 8
    assert found["exact"] == 0.25 and found["remembered"] == 3 / 8 and found["chance"] == 0.25


def test_a_cell_is_of_what_the_comparison_found_best(settings, monkeypatch):
    cells = knowing.of_study(settings, "own")
    assert [(cell["cell"]["level"], cell["cell"]["method"]) for cell in cells] == [
        ("full", "none"),
        ("full", "soft_prompt"),
        ("3bit", "none"),
        ("3bit", "soft_prompt"),
    ]
    assert {(one["form"], one["n"]) for one in cells[-1]["facts"]} == {(form, 8) for form in facts_items.FORMS}
    assert [len(cell["summaries"]) for cell in cells] == [0] * 4
    monkeypatch.setattr(knowing, "counted", lambda *_: pytest.fail("asked twice"))
    assert knowing.of_study(settings, "own") == cells
    best = comparison.best_size(comparison.obtain(settings, "own", Level.parse("3bit"), "soft_prompt")["perplexity"])
    monkeypatch.undo()
    ((seed, learned),) = knowing._learned(Bench(settings, "own", Level.parse("3bit")), "soft_prompt")
    assert seed == 0 and f"{len(learned.vectors)} vectors" == best


def test_the_smaller_model_is_asked_the_same_facts(settings):
    found = knowing.smaller(settings, "own")
    assert found["cell"] == {"model": "other", "level": "full", "method": "none"} and found["stored_bytes"] > 0
    asked = [(row["relation"], row["form"], row["n"]) for row in found["facts"]]
    assert asked == [("continent", form, 8) for form in facts_items.FORMS]
    none = dataclasses.replace(settings.knowledge, smaller={})
    assert knowing.smaller(dataclasses.replace(settings, knowledge=none), "own") is None


# ------------------------------------------------------------------------------------------------------------ summaries


NUMBERS = ["nine", "one", "two", "four"]
DOCUMENTED = [
    Document(f"p.f{number}", f"Return the number {NUMBERS[number % 4]} of list {number // 4}.\n\n{number} {'body ' * 90}")
    for number in range(16)
]


def test_a_summary_is_the_first_sentence_of_what_is_read():
    found = summaries.items(DOCUMENTED, 0)
    assert len(found) == 16 and found == summaries.items(DOCUMENTED, 0)
    for first in range(0, 16, 4):
        four = found[first : first + 4]
        assert len({frozenset(item["choices"]) for item in four}) == 1
        assert {item["choices"][item["label"]] for item in four} == set(four[0]["choices"])
    read = {
        document.text.partition("\n\n")[2][:400] + "\n\nSummary:": document.text.partition("\n\n")[0] for document in DOCUMENTED
    }
    assert {item["context"]: item["choices"][item["label"]] for item in found} == read


def test_summaries_are_scored_by_hand(settings, monkeypatch):
    """Two of the three words of what is written are among the three of the summary: F1 2/3; one pair of two; a common subsequence of two."""
    bench = Bench(settings, "own", Level.parse("3bit"))
    lm = StitchedLM(Subject(bench.network), bench.tokenizer, max_length=500, tokens_at_once=512)
    items = [{"context": "x", "choices": ["sort all values", "b", "c", "d"], "label": 0}] * 4
    monkeypatch.setattr(lm, "write", lambda context, tokens: " sort all lists\nand more")
    found = summaries.scored(lm, items)
    assert found["rouge1"] == pytest.approx([2 / 3] * 4) and found["rougeL"] == pytest.approx([2 / 3] * 4)
    assert found["rouge2"] == pytest.approx([1 / 2] * 4) and found["text"] == "sort all lists"
    context, answer = lm._encode_pair("x", " sort all values")
    nll = token_nll(bench.network, torch.tensor([context + answer]))[0, -len(answer) :].mean().item()
    assert found["nats"] == pytest.approx([nll] * 4, abs=1e-4) and found["n"] == 4 and len(found["right"]) == 1


# ----------------------------------------------------------------------------------------------------------- the claims


def rows(
    level: str, closed: float, read: float, method: str = "none", relation: str = "capital", seeds: int = 1, noise: float = 0.02
):
    found = []
    for seed in range(seeds):
        for form, share in (("closed_book", closed), ("in_context", read), ("counterfactual", read)):
            draw = np.random.default_rng(zlib.crc32(f"{relation} {form}".encode()))  # the same facts are hard at every level
            units = np.clip(share + noise * draw.standard_normal(200) + 0.001 * seed, 0, 1)
            about = {"relation": relation, "form": form, "level": level, "method": method, "seed": seed, "chance": 0.25}
            remembered = 0.1 if form == "counterfactual" else None
            trained = {"trainable_parameters": 10 * (method != "none"), "exact": 0.1, "remembered": remembered, "n": 800}
            found.append({**about, **trained, "units": units.tolist(), "value": float(units.mean())})
    return found


def world(closed: dict[str, float], read: dict[str, float], *more: list[dict]) -> pd.DataFrame:
    return claim.table(
        [one for level in closed for one in rows(level, closed[level], read[level])] + [one for some in more for one in some]
    )


STORED = {"full": 100, "8bit": 50, "3bit": 20, "50%": 55, "2:4": 60}


def outcomes(table: pd.DataFrame, gains: dict | None = None) -> dict[str, str]:
    return {found.claim: found.outcome for found in claim.verdicts(table, gains or {}, MARGIN, NATS, STORED)}


def test_what_llm_kick_says_is_supported_where_it_is_so():
    closed = {"full": 0.9, "8bit": 0.9, "3bit": 0.8, "50%": 0.6, "2:4": 0.5}
    read = {"full": 0.95, "8bit": 0.95, "3bit": 0.95, "50%": 0.94, "2:4": 0.93}
    assert outcomes(world(closed, read)) == {
        "K1": "supported",
        "K2": "supported",
        "K3": "supported",
        "K4": "supported",
        "K5": "not measured",
        "K6": "not measured",
    }


def test_it_is_contradicted_where_it_is_not_so():
    closed = {"full": 0.9, "3bit": 0.6, "50%": 0.8, "2:4": 0.895}
    read = {"full": 0.95, "3bit": 0.5, "50%": 0.7, "2:4": 0.7}
    assert outcomes(world(closed, read)) == {
        "K1": "contradicted", "K2": "contradicted", "K3": "contradicted", "K4": "contradicted", "K5": "not measured",
        "K6": "not measured",
    }  # fmt: skip


def test_what_the_uncompressed_model_does_not_know_does_not_vote():
    unknown = [one for level in ("full", "3bit") for one in rows(level, 0.25, 0.9, relation="element", noise=0.0)]
    table = world({"full": 0.9, "3bit": 0.5}, {"full": 0.9, "3bit": 0.9}, unknown)
    assert claim.known(table) == ["capital"]
    means = claim.over_relations(table, ["capital"])
    assert means["closed_book", "3bit", "none"].mean == pytest.approx(0.5, abs=0.01)
    told = outcomes(claim.table(unknown))
    assert {name for name, outcome in told.items() if outcome != "not measured"} == {"K4"}, "it reads what it does not know"


def test_a_model_that_cannot_read_says_nothing_of_reading():
    """Its answers with a true passage are remembered; against its memory it is at chance."""
    closed = {"full": 0.9, "3bit": 0.5, "50%": 0.4}
    found = [one for level in closed for one in rows(level, closed[level], 0.9)]
    remembering = [one | ({"units": [0.25] * 200} if one["form"] == "counterfactual" else {}) for one in found]
    told = outcomes(claim.table(remembering))
    assert told["K1"] == told["K4"] == "not measured" and told["K2"] == "supported"


def test_what_costs_nothing_does_not_vote():
    """Neither on what falls first, nor on what is brought back."""
    closed = {"full": 0.9, "8bit": 0.9}
    prompted = rows("8bit", 0.9, 0.9, method="soft_prompt", seeds=3)
    lower = [
        {**row("soft_prompt", 2.0, 2.1, 2.0, 2.1, seed=seed), "level": "8bit", "point": "p", "validation_nll": 2.0}
        for seed in range(3)
    ]
    gains = claim.gains(lower, [{**row("none", 2.5, 2.6, 2.5, 2.6), "level": "8bit"}], "broad")
    told = outcomes(world(closed, closed, prompted), gains)
    assert told["K1"] == told["K5"] == "not measured"


def test_what_is_chosen_by_some_facts_and_judged_by_others_is_not_flattered():
    """Four relations that both models know as little, and as well: those that the larger one happens to answer better are chosen."""
    draw, found = np.random.default_rng(0), []
    for _ in range(300):
        made = {model: [draw.binomial(4, 0.31, 60) / 4 for _ in range(4)] for model in ("large", "small")}
        asked = [
            {
                model: {**rows("full", 0.5, 0.5, relation=f"r{number}")[0], "units": own[number].tolist()}
                for model, own in made.items()
            }
            for number in range(4)
        ]
        reading = [one for number in range(4) for one in rows("full", 0.5, 0.5, relation=f"r{number}")[1:]]
        beside = claim.beside_smaller(claim.table([*(one["large"] for one in asked), *reading]), [one["small"] for one in asked])
        found += [beside["full"]] if beside else []
    assert len(found) > 50 and abs(np.mean([one.mean for one in found])) < 0.01
    assert np.mean([one.interval()[0] > 0 for one in found]) < 0.06


def test_a_guesser_by_enumeration():
    """Two groups of four in all 24 x 24 orders: a guesser that gives each answer once has as many right as there are fixed points."""
    fixed = [sum(a == b for a, b in enumerate(order)) for order in itertools.permutations(range(4))]
    for units, right in (([1.0, 1.0], 8), ([0.5, 0.25], 3), ([0.25, 0.0], 1), ([0.0, 0.0], 0)):
        assert claim.as_good_as(units) == pytest.approx(np.mean([a + b >= right for a in fixed for b in fixed]))


@pytest.mark.parametrize("habit", [(0, 0, 0, 0), (0, 0, 1, 1), (0, 0, 1, 2), (0, 1, 2, 3)])
def test_a_guesser_of_any_habit_is_seldom_taken_for_one_that_knows(habit):
    """What it answers does not depend on which of the four subjects it is asked about."""
    draw = np.random.default_rng(0)
    taken = [claim.as_good_as([np.mean(draw.permutation(4) == habit) for _ in range(10)]) <= claim.SURE for _ in range(2000)]
    assert np.mean(taken) < claim.SURE + 3 * (claim.SURE * (1 - claim.SURE) / 2000) ** 0.5


def test_too_few_facts_choose_no_relation():
    few = [one | {"units": one["units"][:9]} for one in rows("full", 0.9, 0.9)]
    assert claim.known(claim.table(few)) == ["capital"]
    assert claim.known(claim.table([one | {"units": one["units"][:8]} for one in few])) == []


@pytest.mark.parametrize(("back", "outcome"), [(0.5, "supported"), (0.6, "contradicted"), (0.52, "undecided")])
def test_a_prompt_that_brings_knowledge_back_contradicts(back, outcome):
    prompted = rows("3bit", back, 0.9, method="soft_prompt", seeds=3)
    table = world({"full": 0.9, "3bit": 0.5}, {"full": 0.9, "3bit": 0.9}, prompted)
    lower = [
        {**row("soft_prompt", 2.0, 2.1, 2.0, 2.1, seed=seed), "level": "3bit", "point": "p", "validation_nll": 2.0}
        for seed in range(3)
    ]
    alone = [{**row("none", 2.5, 2.6, 2.5, 2.6), "level": "3bit"}]
    gains = claim.gains(lower, alone, "broad")
    assert gains["3bit"].mean == pytest.approx(0.5)
    assert outcomes(table, gains)["K5"] == outcome


def test_one_seed_of_a_prompt_decides_nothing():
    prompted = rows("3bit", 0.5, 0.9, method="soft_prompt", seeds=1)
    table = world({"full": 0.9, "3bit": 0.5}, {"full": 0.9, "3bit": 0.9}, prompted)
    one = [{**row("soft_prompt", 2.0, 2.1, 2.0, 2.1), "level": "3bit", "point": "p", "validation_nll": 2.0}]
    gains = claim.gains(one, [{**row("none", 2.5, 2.6, 2.5, 2.6), "level": "3bit"}], "broad")
    assert outcomes(table, gains)["K5"] == "undecided"


@pytest.mark.parametrize(("share", "matches"), [(0.97, "yes"), (0.5, "no")])
def test_a_level_matches_with_95_percent_of_the_right_answers(share, matches):
    table = world({"full": 0.9, "3bit": 0.9 * share}, {"full": 0.9, "3bit": 0.9})
    assert table.matches["capital", "closed_book", "3bit", "none"] == matches
    noisy = claim.table(
        rows("full", 0.9, 0.9, noise=0.5) + [one | {"units": one["units"][::-1]} for one in rows("3bit", 0.87, 0.9, noise=0.5)]
    )
    assert noisy.matches["capital", "closed_book", "3bit", "none"] == "undecided"
    unknown = world({"full": 0.25, "3bit": 0.25}, {"full": 0.9, "3bit": 0.9})
    assert unknown.matches["capital", "closed_book", "3bit", "none"] == "at chance"


@pytest.mark.parametrize(("seeds", "power"), [(1, 0.8), (3, 0.8)])
def test_what_could_be_seen_is_seen_four_times_out_of_five(seeds, power):
    """A thousand worlds in which a level is worse, or a repair with a few seeds better, by what is said on average to be found."""
    draw, method = np.random.default_rng(0), "soft_prompt" if seeds > 1 else "none"
    facts = rows("full", 0.5, 0.5, noise=0.0)

    def changed(true: float):
        units = draw.normal(0.5, 0.2, (2, 100))
        lucky = 0.02 * draw.standard_normal(seeds)
        level = "3bit"
        found = [{**one, "level": name, "units": units[0].tolist()} for name in ("full", level) for one in facts]
        other = [
            {
                **one,
                "level": level,
                "method": method,
                "seed": seed,
                "trainable_parameters": 9,
                "units": (units[1] + true + lucky[seed]).tolist(),
            }
            for seed in range(seeds)
            for one in facts
        ]
        if seeds == 1:
            found = found[: len(facts)]
            other = [one | {"trainable_parameters": 0} for one in other]
        return claim.changes(claim.table([*found, *other])).loc["closed_book", level, method]

    true = np.mean([changed(0.0).detected for _ in range(200)])
    seen = np.mean([changed(true).change.interval()[0] > 0 for _ in range(500)])
    assert power - 0.07 < seen < power + 0.1


def test_a_large_pruned_model_is_compared_at_no_more_bytes():
    stored = {"full": 100, "50%": 60, "62.5%": 50, "75%": 40, "wanda:50%": 58, "wanda:75%": 41, "2bit": 30, "2:4": 62}
    assert claim.no_larger(stored, 51) == ["62.5%", "wanda:75%"] and claim.no_larger(stored, 39) == []
    table = world({"full": 0.9, "62.5%": 0.8}, {"full": 0.9, "62.5%": 0.9})
    for small, outcome in ((0.7, "supported"), (0.9, "contradicted")):
        beside = claim.beside_smaller(table, rows("full", small, 0.9))
        assert beside["62.5%"].mean == pytest.approx(0.8 - small, abs=0.01)
        verdicts = claim.verdicts(table, {}, MARGIN, NATS, beside={"62.5%": beside["62.5%"]})
        assert verdicts[-1].claim == "K6" and verdicts[-1].outcome == outcome
    assert claim.beside_smaller(claim.table(rows("full", 0.25, 0.9, noise=0.0)), rows("full", 0.2, 0.2)) == {}


def test_summaries_are_averaged_by_level_and_method():
    about = {"seed": 0, "trainable_parameters": 0, "right": [0.5, 1.0], "nats": [1.0, 3.0]}
    made = [{**about, **{name: [0.2, 0.4] for name in claim.ROUGE}, "level": level, "method": "none"} for level in ("full", "3bit")]
    table = claim.of_summaries(made)
    assert table.right["3bit", "none"].mean == 0.75 and table.nats["full", "none"].mean == 2 and claim.of_summaries([]).empty
    assert table.rougeL["full", "none"].mean == pytest.approx(0.3)


def test_figures_have_a_point_a_level_and_an_arrow_a_repair(settings):
    spec = dataclasses.replace(settings.knowledge, levels=("full", "3bit", "50%", "2:4", "wanda:50%"))
    levels = {level: 0.9 - 0.1 * number for number, level in enumerate(spec.levels)}
    table = world(levels, levels, rows("3bit", 0.85, 0.85, method="soft_prompt"))
    figure = knowledge_figures.arrows(table, settings, "uncompressed")
    (axis,) = figure.axes
    texts = {text.get_text() for text in axis.texts}
    assert {"uncompressed", *spec.levels[1:]} <= texts
    figure = knowledge_figures.by_level(table, dataclasses.replace(settings, knowledge=spec))
    labels = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    assert sorted(labels) == sorted(
        f"{name}, {form}" for name in ("SparseGPT", "Wanda", "GPTQ") for form in ("from memory", "from a passage")
    )
    plt.close("all")
