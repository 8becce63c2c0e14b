"""The claims: tables by hand, and every outcome of every verdict."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT
from test_estimate import row, seeds_of

from ctp_lib.claims import (
    c1_hard_prompt,
    c2_c3_recovery,
    c4_stored_size,
    c5_cross_dataset,
    c6_cross_compression,
    c7_cross_task,
    c8_lora,
    c9_cost,
    c11_another_model,
    c12_nearest_tokens,
    ledger,
    metric_audit,
    overview,
    paper,
    readme,
    repair,
    transfer,
)
from ctp_lib.claims.estimate import Estimate
from ctp_lib.claims.verdict import Verdict, judge
from ctp_lib.settings import study

MARGIN = 0.01
MARGINS = study.load(ROOT / "params.yaml").margins


def around(mean: float, windows: int = 8, seeds: int = 3, spread: float = 0.001) -> np.ndarray:
    """NLL by seed and window around ``mean``, with little noise."""
    return mean + spread * np.random.default_rng(0).standard_normal((seeds, windows))


def prompted(mean: float, method: str = "soft_prompt", **more) -> list[dict]:
    """A row a seed of something that was learned."""
    return seeds_of(method, around(mean), **more)


def alone(mean: float, **more) -> dict:
    return row("none", *around(mean, seeds=1)[0], **more)


# ------------------------------------------------------------------------------------------------ C2, C3, C4


REACHED = {level: {"bits_per_weight": 4.5} for level in ("full", "4bit", "2bit")}


def recovered(*with_prompt: float) -> pd.DataFrame:
    """The uncompressed model at NLL 1.0, one mild level at 1.05, one severe at 2.0; prompted as given."""
    levels = zip(("full", "4bit", "2bit"), (1.0, 1.05, 2.0), (0.99, *with_prompt), strict=True)
    found = [{"cell": {"level": level}, "perplexity": [alone(none), *prompted(nll)]} for level, none, nll in levels]
    return c2_c3_recovery.table(found, REACHED, evaluated_on="broad")


@pytest.mark.parametrize(
    ("with_prompt", "second", "third"),
    [
        ((0.99, 1.5), "supported", "supported"),  # both lower, the mild level below the uncompressed model
        ((1.045, 1.5), "contradicted", "contradicted"),  # five thousandths are less than the margin
        ((1.025, 1.5), "supported", "contradicted"),
        ((1.0, 2.1), "contradicted", "supported"),
    ],
)
def test_recovery(with_prompt, second, third):
    found = {verdict.claim: verdict for verdict in c2_c3_recovery.verdicts(recovered(*with_prompt), MARGIN)}
    assert [found[claim].outcome for claim in ("C2", "C3")] == [second, third]
    assert found["repair"].parts[0].seeds == 3 and found["repair"].parts[0].cells[1].estimate == pytest.approx(
        (2 - with_prompt[1]) / 2, abs=1e-3
    )


def test_a_level_that_costs_nothing_and_a_prompt_that_still_learns_contradict_nothing():
    table = recovered(1.05, 2.0)
    second, third, _ = c2_c3_recovery.verdicts(table, MARGIN, unfinished=["4bit", "2bit"])
    assert second.outcome == "undecided" == third.outcome
    free = table.assign(cost=[Estimate(0.001, {}) for _ in table.index])
    assert c2_c3_recovery.verdicts(free, MARGIN)[0].outcome == "not measured"


def test_the_joint_model_is_judged_by_its_size_its_gain_and_its_answers():
    sizes = pd.DataFrame([{"level": "50%+4bit", "bits_per_weight": 3.1, "times_smaller": 16 / 3.1, "recovered": 0.5}])
    gains = pd.DataFrame({"gain": [Estimate(0.1, {})], "cost": [Estimate(0.2, {})]}, index=["50%+4bit"])
    tasks = gains.set_axis(["gain_of_half", "cost_of_half"], axis=1)
    tasks.index = pd.MultiIndex.from_tuples([("t", "50%+4bit")], names=["task", "level"])
    found = c4_stored_size.verdict(sizes, gains, tasks, MARGINS)
    assert found.outcome == "contradicted" and "5.2 times smaller, promised 8" in found.headline
    assert [part.outcome for part in found.parts] == ["contradicted", "supported", "supported"]
    as_promised = sizes.assign(times_smaller=8.0)
    assert c4_stored_size.verdict(as_promised, gains, tasks, MARGINS).outcome == "supported"
    no_better = tasks.assign(gain_of_half=[Estimate(0.01, {})])
    assert c4_stored_size.verdict(as_promised, gains, no_better, MARGINS).parts[2].outcome == "contradicted"
    assert c4_stored_size.verdict(as_promised, gains, no_better, MARGINS, ["50%+4bit"]).parts[2].outcome == "undecided"
    assert c4_stored_size.verdict(sizes.assign(level="4bit"), gains, tasks, MARGINS).outcome == "not measured"


# ------------------------------------------------------------------------------------------------------- C1


def written(*leads: float, texts: int = 10) -> pd.DataFrame:
    """Changes behind a hard prompt that lies by ``leads`` (at 4bit, at 2bit) below those behind neutral texts."""
    rng, rows = np.random.default_rng(0), []
    for level, lead in zip(("4bit", "2bit", "full"), (*leads, 0.0), strict=True):
        for item in range(12):
            at = {"level": level, "prompt": "paper, long", "item": item, "alone": (level != "full") + 0.01 * item}
            rows.append({**at, "text": "hard prompt", "number": 0, "change": -1 + 0.1 * item - lead})
            rows += [
                {**at, "text": "neutral", "number": n, "change": -1 + 0.1 * item + 0.001 * rng.standard_normal()}
                for n in range(texts)
            ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("leads", "outcome"), [((0.5, 0.5), "supported"), ((0.5, 0.0), "contradicted"), ((0.01, 0.5), "undecided")]
)
def test_a_hard_prompt_has_to_beat_neutral_texts(leads, outcome):
    table, costs = c1_hard_prompt.table(written(*leads)), c1_hard_prompt.costs(written(*leads))
    assert {level: cost.mean for level, cost in costs.items()} == pytest.approx({"2bit": 1.0, "4bit": 1.0})
    assert table.lead["4bit", "paper, long"].mean == pytest.approx(leads[0], abs=0.001)
    assert table.change_by_neutral["full", "paper, long"] == pytest.approx(-0.45, abs=0.001)
    assert table.helped.tolist()[2] == pytest.approx(10 / 12)
    verdict = c1_hard_prompt.verdict(table, costs, MARGIN)
    assert verdict.outcome == outcome and verdict.parts[0].clusters == 12
    one = c1_hard_prompt.verdict(c1_hard_prompt.table(written(*leads, texts=1)), costs, MARGIN)
    assert one.outcome == "undecided", "one neutral text is a sample of one"


# -------------------------------------------------------------------------------------------------- C5 and C6


COSTS = {"full": 0.0, "4bit": 0.1, "50%": 0.15, "3bit": 0.2, "75%": 1.0}


def transferred(gains: dict[tuple, float], by: str) -> pd.DataFrame:
    """A transfer table in which the prompt learned at the first of each key gains so much there."""
    rows = []
    for level in dict.fromkeys(["full", *(at[1] for at in gains)]):
        for corpus in dict.fromkeys(at[2] if len(at) > 2 else "broad" for at in gains):
            rows.append({"level": level, **alone(2 + COSTS[level], on=corpus)})
    for (source, level, *corpus), gain in gains.items():
        on = corpus[0] if corpus else "broad"
        rows += [{"level": level, by: source, **found} for found in prompted(2 + COSTS[level] - gain, on=on)]
    where = None if by == "trained_on" else "broad"
    return transfer.transfer_table(rows, levels=list(COSTS), by=by, seeds=[0, 1, 2], evaluated_on=where)


def test_a_transfer_table_by_hand():
    rows = [
        {"level": "full", **row("none", 1.0, 1.0)}, {"level": "4bit", **row("none", 2.0, 2.0)},
        {"level": "4bit", "trained_at_level": "2bit", **row("soft_prompt", 1.4, 1.6, seed=1)},
        {"level": "4bit", "trained_at_level": "2bit", **row("soft_prompt", 9.0, 9.0, seed=7)},
    ]  # fmt: skip
    table = transfer.transfer_table(rows, levels=["4bit"], by="trained_at_level", seeds=[0, 1, 2], evaluated_on="broad")
    found = table.loc["2bit", "4bit"]
    assert (found.gain.mean, found.cost.mean, found.seeds) == (pytest.approx(0.5), pytest.approx(1.0), 1)
    assert found.recovered == pytest.approx((math.e**2 - math.e**1.5) / (math.e**2 - math.e))


PERFECT = {("broad", "c"): 0.3, ("c", "c"): 0.6, ("c", "d"): -0.2, ("c", "broad"): -0.2, ("broad", "d"): 0.3, ("d", "d"): 0.6,
           ("d", "c"): -0.2, ("d", "broad"): -0.2, ("broad", "broad"): 0.5}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "outcomes"),
    [
        ({}, ["supported", "supported", "supported"]),
        ({("broad", "d"): 0.0}, ["contradicted", "supported", "supported"]),
        ({("c", "d"): 0.3}, ["supported", "supported", "contradicted"]),
        ({("c", "c"): 0.3, ("d", "d"): 0.2}, ["supported", "contradicted", "supported"]),
        ({("broad", "c"): 0.01}, ["undecided", "supported", "supported"]),
    ],
)
def test_cross_dataset(changes, outcomes):
    gains = {(source, "75%", on): gain for (source, on), gain in {**PERFECT, **changes}.items()}
    verdict = c5_cross_dataset.verdict(transferred(gains, "trained_on"), MARGIN, broad="broad")
    assert [part.outcome for part in verdict.parts] == outcomes
    single = transferred({("broad", "75%", "broad"): 0.2}, "trained_on")
    assert c5_cross_dataset.verdict(single, MARGIN, broad="broad").outcome == "not measured", "it takes another corpus"


def matrix(share) -> pd.DataFrame:
    """Own gains of 1 at every level; what another level's prompt keeps of it is ``share(source, level)``."""
    return transferred({(a, b): 1.0 if a == b else share(a, b) for a in COSTS for b in COSTS}, "trained_at_level")


@pytest.mark.parametrize(
    ("share", "outcomes"),
    [
        (lambda a, b: 0.9 if COSTS[a] > COSTS[b] else 0.4, ["supported", "supported", "supported", "supported"]),
        (lambda a, b: 0.4 if COSTS[a] > COSTS[b] else 0.9, ["supported", "supported", "supported", "contradicted"]),
        (lambda a, b: -0.4 if COSTS[a] > COSTS[b] else 0.0, ["contradicted", "contradicted", "contradicted", "contradicted"]),
        (lambda a, b: 2.0 if COSTS[a] > COSTS[b] else -0.4, ["supported", "supported", "contradicted", "supported"]),
        (lambda a, b: 0.01, ["undecided", "undecided", "supported", "undecided"]),
    ],
)
def test_cross_compression(share, outcomes):
    assert [part.outcome for part in c6_cross_compression.verdict(matrix(share), MARGIN).parts] == outcomes


def test_prompts_that_were_still_learning_contradict_no_transfer():
    gains = {(source, "75%", on): gain for (source, on), gain in {**PERFECT, ("broad", "d"): 0.0}.items()}
    found = c5_cross_dataset.verdict(transferred(gains, "trained_on"), MARGIN, broad="broad", unfinished=["75%"])
    assert found.parts[0].outcome == "undecided"
    harm = matrix(lambda a, b: -0.4 if a == "75%" else 0.0)
    assert c6_cross_compression.verdict(harm, MARGIN).parts[2].outcome == "contradicted"
    found = c6_cross_compression.verdict(harm, MARGIN, unfinished=["75%"])
    assert [part.outcome for part in found.parts[:3]] == ["undecided"] * 3
    found = c7_cross_task.verdict(c7_cross_task.table(asked(0.8, 0.4, 0.4)), MARGINS.accuracy, ["2bit"])
    assert found.outcome == "undecided"


def test_directions_of_a_transfer():
    table = c6_cross_compression.directions(matrix(lambda a, b: 0.9 if COSTS[a] > COSTS[b] else 0.4))
    assert table.pairs.sum() == 12  # four compressed levels; the uncompressed one is no part of it
    found = table.share.groupby("direction").first().to_dict()
    assert found == pytest.approx({"less to more": 0.4, "more to less": 0.9}, abs=0.001)
    only = transferred({(a, b): 1.0 for a in ("full", "4bit") for b in ("full", "4bit")}, "trained_at_level")
    assert c6_cross_compression.verdict(only, MARGIN).outcome == "not measured"


# -------------------------------------------------------------------------------------------------- C7 and C8


def answers(level: str, method: str, units: np.ndarray, seed: int | None = None) -> dict:
    found = {"task": "t", "level": level, "method": method, "units": units.tolist(), "value": units.mean(), "n": len(units)}
    return found | {"chance": 0.25} | ({} if seed is None else {"seed": seed})


def asked(full: float, none: float, with_prompt: float, items: int = 400, levels=("4bit", "2bit")) -> list[dict]:
    """Answers of which a share is right, by the same items in the same order."""
    right = (np.arange(items) * 7919 % items) / items  # how hard an item is, from 0 to 1
    rows = [answers("full", "none", (right < full) * 1.0)] + [
        answers("full", "soft_prompt", (right < full) * 1.0, n) for n in range(3)
    ]
    for level in levels:
        rows.append(answers(level, "none", (right < none) * 1.0))
        rows += [answers(level, "soft_prompt", (right < with_prompt + 0.001 * n) * 1.0, n) for n in range(3)]
    return rows


@pytest.mark.parametrize(
    ("shares", "outcome"),
    [
        ((0.8, 0.4, 0.7), "supported"),
        ((0.8, 0.4, 0.4), "contradicted"),
        ((0.8, 0.4, 0.43), "undecided"),
        ((0.8, 0.8, 0.9), "not measured"),  # nothing to recover
    ],
)
def test_tasks(shares, outcome):
    table = c7_cross_task.table(asked(*shares))
    found = table.loc["t", "4bit"]
    assert found.gain.mean == pytest.approx(shares[2] - shares[1], abs=0.003)
    assert found.cost.mean == pytest.approx(shares[0] - shares[1], abs=0.003)
    verdict = c7_cross_task.verdict(table, MARGINS.accuracy)
    assert verdict.outcome == outcome and (outcome == "not measured") == ("likely to be detected" not in verdict.figures)


def learned(level: str, method: str, point: str, parameters: int, on: str, nll: float, falling: float = 0.0):
    return [
        {"level": level, "point": point, "learning_rate": 0.1, "at_edge": False, "swept": True, "validation_nll": nll, "falling": falling,
         **found, "trainable_parameters": parameters}
        for found in prompted(nll, method, on=on)
    ]  # fmt: skip


def compared(here: float, there: float, size: int, **prompt) -> pd.DataFrame:
    rows = []
    for on, nll in (("broad", here), ("other", there)):
        rows.append({"level": "2bit", **alone(2.0, on=on)})
        rows += learned("2bit", "soft_prompt", "20", size, on, nll, **prompt)
        rows += learned("2bit", "lora", "1@qv", 4000, on, 1.9) + learned("2bit", "lora", "32@qv", 100_000, on, 1.6)
    return c8_lora.table(rows)


@pytest.mark.parametrize(
    ("here", "there", "size", "outcomes"),
    [
        (1.5, 1.5, 5000, ["supported", "supported", "supported"]),
        (1.5, 1.7, 5000, ["supported", "contradicted", "supported"]),
        (1.5, 1.5, 200_000, ["supported", "supported", "contradicted"]),
        (1.59, 1.59, 5000, ["undecided", "undecided", "supported"]),
    ],
)
def test_soft_prompt_against_lora(here, there, size, outcomes):
    table = compared(here, there, size)
    assert len(table) == 6 and not table.at_edge.any()
    nearest, (point, nll) = c8_lora.nearest_lora(table), ("1@qv", 1.9) if size == 5000 else ("32@qv", 1.6)
    assert set(nearest.point_lora) == {point}
    assert [lead.mean for lead in nearest.lead] == pytest.approx([nll - here, nll - there], abs=1e-3)
    assert [part.outcome for part in c8_lora.verdict(table, MARGIN, broad="broad").parts] == outcomes


def test_what_was_not_learned_to_its_end_does_not_vote():
    falling = c8_lora.verdict(compared(1.5, 1.5, 5000, falling=0.02), MARGIN, broad="broad")
    assert [part.outcome for part in falling.parts[:2]] == ["not measured"] * 2
    assert falling.parts[0].silent == {"2bit": "soft_prompt: still learning when training ended"}
    larger = c8_lora.verdict(compared(1.5, 1.5, 200_000, falling=0.02), MARGIN, broad="broad")
    assert larger.parts[2].outcome == "contradicted" and larger.outcome == "not measured"
    table = compared(1.5, 1.5, 5000).assign(at_edge=True)
    assert c8_lora.verdict(table, MARGIN, broad="broad").parts[0].outcome == "not measured"


# ---------------------------------------------------------------------------------------- the metric, C9, C11, C12


def test_the_published_rows_against_lora_recomputed():
    # 6.75 ^ (1123 / 1023) = 8.14, and so on: four rows as worked out by hand
    assert [round(paper.exact(entry["prompt"]), 2) for entry in paper.LORA_3BIT] == [8.14, 17.47, 7.00, 15.89]


def test_what_two_formulas_make_of_the_same_prompts():
    rows = [{"prompt_kind": "untrained", "prompt_tokens": 100, "ppl": 21.0, "ppl_released": 15.0}]
    ours = metric_audit.table(rows, none=20.0, full=10.0)
    assert ours.recovered.item() == pytest.approx(-0.1) and ours.recovered_released.item() == pytest.approx(0.5)
    theirs = pd.DataFrame(paper.LORA_3BIT)
    theirs["exact"] = theirs.prompt.map(paper.exact)
    told = metric_audit.told(ours, theirs, none=20.0, full=10.0)
    assert "1 of 1 prompts look better than no prompt but are not" in told and "0 of its 4 leads over LoRA exceed 1%" in told


@pytest.mark.parametrize(("lora", "full", "outcome"), [(2e6, 3e6, "supported"), (1.04e6, 5e6, "contradicted")])
def test_cost(lora, full, outcome):
    steps = pd.DataFrame(
        {"method": ["soft prompt", "LoRA", "full"], "activation_bytes": [1e6, lora, full], "seconds": [1.0, 0.5, 2.0]}
    )
    spent = pd.DataFrame({"level": ["4bit", "75%", "full"], "work": ["train"] * 3, "seconds": [10.0, 30.0, 5.0]})
    gains = {
        ("4bit", "4bit"): 0.5,
        ("4bit", "75%"): 0.1,
        ("75%", "4bit"): 0.4,
        ("75%", "75%"): 0.5,
        ("full", "4bit"): 0,
        ("full", "75%"): 0,
    }
    saved = c9_cost.transfer_savings(spent, transferred(gains, "trained_at_level"))
    assert saved.seconds.tolist() == [40.0, 30.0] and saved.share_of_gain.tolist() == pytest.approx([1.0, 0.9], abs=1e-3)
    assert c9_cost.verdict(steps, saved, MARGINS.bytes, 100, 256).outcome == outcome


@pytest.mark.parametrize(
    ("stitched", "outcome"), [((1.5, 1.5), "supported"), ((1.5, 2.5), "contradicted"), ((1.5, 1.99), "undecided")]
)
@pytest.mark.parametrize("stranger", [None, 0.0, 5.0])
def test_another_model(stitched, outcome, stranger):
    """A relative, and where there is one a stranger, which the prompt may help as much or harm."""
    rows = []
    for model, moved in (("sibling", 0.0), ("stranger", stranger)):
        if moved is None:
            continue
        for level, nll in zip(("full", "2bit"), stitched, strict=True):
            rows.append({"model": model, "level": level, "prompt_kind": "none", **alone(2.0)})
            rows.append({"model": model, "level": level, "prompt_kind": "untrained", **alone(3.0)})
            for kind, value in (("own", 1.0), ("stitched", nll + moved)):
                rows += [{"model": model, "level": level, "prompt_kind": kind, **found} for found in prompted(value)]
    verdict = c11_another_model.verdict(c11_another_model.table(rows), MARGIN)
    assert verdict.parts[0].outcome == outcome and verdict.outcome == ("contradicted" if stranger == 5.0 else outcome)
    if stranger == 5.0:
        assert verdict.headline.endswith("; on stranger: contradicted") and verdict.parts[2].estimate < -4


def test_reading_counts_what_stayed_and_what_seeds_share():
    vocabulary = torch.eye(10)
    start = {0: vocabulary[:2], 1: vocabulary[2:4]}
    prompts = {("4bit", 0): vocabulary[[0, 5]] * 2, ("4bit", 1): vocabulary[[6, 5]]}
    moves = c12_nearest_tokens.movement_table(prompts, start, vocabulary)
    assert moves.still_start.tolist() == [0.5, 0.0] and moves.moved[("4bit", 0)] == pytest.approx(1.0)
    assert c12_nearest_tokens.agreement_table(prompts, start, vocabulary).shared.tolist() == [1]
    same = {("4bit", 0): start[0], ("4bit", 1): start[0]}  # what never left its start names nothing
    assert c12_nearest_tokens.agreement_table(same, {0: start[0], 1: start[0]}, vocabulary).shared.tolist() == [0]


def test_displacements_that_share_a_hub_agree_by_chance_alone():
    """All prompts move to the hub of the vocabulary: isotropic directions would share nothing of it, and the claim would hold."""
    generator = torch.Generator().manual_seed(0)
    vocabulary = torch.randn(200, 16, generator=generator)
    start = {seed: vocabulary[torch.randperm(200, generator=generator)[:20]] for seed in range(3)}
    hub = {seed: vectors + 3 * vocabulary[7] + torch.randn(20, 16, generator=generator) for seed, vectors in start.items()}
    moves = c12_nearest_tokens.movement_table({("2bit", seed): one for seed, one in hub.items()}, start, vocabulary)
    agreement = c12_nearest_tokens.agreement_table({("2bit", seed): one for seed, one in hub.items()}, start, vocabulary)
    assert agreement.by_chance.item() > 0.5
    assert c12_nearest_tokens.verdict(moves, agreement, MARGINS.tokens).outcome in ("contradicted", "undecided")
    named = vocabulary[torch.randperm(200, generator=generator)[:20]]  # and these name the same twenty tokens
    told = {("2bit", seed): named + 0.01 * torch.randn(20, 16, generator=generator) for seed in start}
    agreement = c12_nearest_tokens.agreement_table(told, start, vocabulary)
    assert c12_nearest_tokens.verdict(moves, agreement, MARGINS.tokens).outcome == "supported"
    single = c12_nearest_tokens.verdict(moves.xs(0, level="seed", drop_level=False), agreement, MARGINS.tokens)
    assert single.outcome == "not measured"


# -------------------------------------------------------------------------------------------------- the ledger


def test_the_ledger_for_people_and_for_machines(tmp_path):
    settings = replace(study.load(ROOT / "params.yaml"), root=tmp_path)
    for verdict in c2_c3_recovery.verdicts(recovered(0.99, 1.5), MARGIN):
        verdict.write(settings, "reference")
    claims = ledger.collect(settings)
    assert [claim["claim"] for claim in claims] == ["C2", "C3", "repair"]
    for name in (
        "question",
        "headline",
        "outcome",
        "estimate",
        "low",
        "high",
        "unit",
        "margin",
        "voted",
        "seeds",
        "clusters",
        "notebook",
    ):
        assert name in claims[0], name
    assert claims[0]["low"] < claims[0]["estimate"] < claims[0]["high"] and claims[0]["voted"] == ["4bit", "2bit"]
    page = ledger.page(json.loads(json.dumps(claims)), settings)
    assert "| Helps in both cells | +0.280" in page and "**supported**" in page and "4bit +0.060 [" in page


def test_readme_shows_what_was_recorded():
    """README and the page of results hold the tables of the recorded runs as they are."""
    for page in readme.PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        assert readme.filled(text, study.load(ROOT / "params.yaml"), page) == text


def test_a_row_of_readme_has_the_outcome_in_every_run():
    def claim(name, outcome, headline="h", *cells):
        parts = [{"cells": [{"outcome": cell} for cell in cells]}]
        about = {"claim": name, "question": f"{name} says", "headline": headline, "outcome": outcome, "notebook": "04"}
        return {name: about | {"parts": parts}}

    small = {
        **claim("C1", "undecided", "h", "supported", "undecided"), **claim("C2", "not measured"), **claim("C3", "not measured"),
        **claim("C4", "undecided", "h", "undecided"),
    }  # fmt: skip
    told = readme.ledger({"smollm2_pilot": claim("C2", "supported", "Helps", "supported"), "embedded": small})
    link = "[![supported](docs/badges/supported.svg)](results/recorded/smollm2_pilot/runs/04)"
    assert f"| C2 | C2 says | {link} Helps | - |" in told and "| C1 | C1 says | - | [![undecided]" in told and "| C4 |" in told
    assert told.endswith("Not measured yet: C3.") and "| C3" not in told
    brief = readme.ledger({"smollm2_pilot": claim("C2", "supported", "Helps", "supported"), "embedded": small}, "../", brief=True)
    assert link.replace("(", "(../").replace("[!", "[!", 1) in brief and "Helps" not in brief


def test_readmes_words_are_those_of_the_numbers(tmp_path):
    """A hand count on the recorded pilot, and no words where the order of the numbers is another."""
    folder = ROOT / "results/recorded" / readme.REAL
    told = " ".join(overview.told(folder).split())
    rows = pd.read_csv(next((folder / "every_repair").glob("*.csv"))).set_index("method")
    assert f"to {rows.ppl_alone.iloc[0]:.0f} (lower is better). A prompt lowers it to {rows.ppl['soft_prompt']:.0f}." in told
    table = overview.beside(folder)["75%"]
    assert list(table.ppl) == sorted(table.ppl) and table.name[0] == "not compressed"
    stored = {
        name: json.loads((folder / f"compression/smollm2/{name}.json").read_text())["reached"]["stored_bytes"]
        for name in ("w4", "s75")
    }
    bits = table[table.name == "4bit, no repair"].iloc[0]
    assert bits.added == pytest.approx(stored["w4"] / stored["s75"] - 1)
    shutil.copytree(folder, tmp_path / "run")
    path = next((tmp_path / "run/every_repair").glob("*.csv"))
    path.write_text(path.read_text().replace("85.644", "185.644"))
    with pytest.raises(ValueError, match="no longer hold"):
        overview.told(tmp_path / "run")


def test_every_claim_says_which_rows_it_is_judged_by():
    for claim in json.loads((ROOT / "results/recorded/embedded/claims.json").read_text(encoding="utf-8")):
        for file in ledger.ROWS[claim["claim"]]:
            assert (ROOT / "results/recorded/embedded" / file.format("reference")).exists(), file


@pytest.mark.parametrize("path", sorted((ROOT / "results" / "recorded").glob("*/claims.json")), ids=lambda path: path.parent.name)
def test_a_recorded_headline_is_short(path):
    for claim in json.loads(path.read_text(encoding="utf-8")):
        assert len(claim["headline"].split()) <= 12, claim["headline"]


def test_a_verdict_of_another_study_is_not_in_the_ledger(tmp_path):
    """A clone holds the verdicts that are committed; a study without another model did not ask C11."""
    settings = replace(study.load(), root=tmp_path)
    part = judge("q", {"a": Estimate(1.0, {})}, MARGIN)
    for claim in ("C1", "C11"):
        Verdict(claim, "says", "headline", (part,), "figures", "04_central_result").write(settings, "reference")
    assert [found["claim"] for found in ledger.collect(settings)] == ["C1", "C11"]
    without = replace(settings, another_model=replace(settings.another_model, pairs=()))
    assert [found["claim"] for found in ledger.collect(without)] == ["C1"]


def test_repair_is_told_from_adaptation_row_by_row():
    settings = study.load(ROOT / "params.yaml")
    settings = replace(settings, methods={"soft_prompt": {}, "sink": {}})

    def found(level, method, nll, kl, seed=0, **more):
        return {
            "level": level,
            "method": method,
            "nll": nll,
            "kl": kl,
            "ppl": math.exp(nll),
            "seed": seed,
            "evaluated_on": "documentation",
            **more,
        }

    scored = [found("full", "none", 2.0, 0.0), found("75%", "none", 3.0, 0.8), found("75%", "sink", 2.9, 0.7)]
    scored += [found("75%", "soft_prompt", nll, 0.5, seed) for seed, nll in enumerate((2.5, 2.7))]
    stitched = [
        found("full", "soft_prompt", 1.9, 0.2, trained_at_level="75%"),
        found("2bit", "soft_prompt", 9.0, 9.0, trained_at_level="75%"),
    ]
    compared = [found("75%", "lora", 2.4, 0.4, point="8@qv", learning_rate=0.1, validation_nll=2.6)]
    compared += [found("75%", "lora", 2.3, 0.3, point="1@qv", learning_rate=0.1, validation_nll=2.7)]
    compared += [
        found("full", "soft_prompt", 1.8, 0.3, point="20 vectors", learning_rate=rate, validation_nll=rate) for rate in (0.1, 0.2)
    ]
    table = repair.table(settings, scored, stitched, compared).loc["75%"]
    assert list(table.index) == [
        "uncompressed", "uncompressed + its own prompt", "uncompressed + the compressed model's prompt",
        "compressed", "compressed + soft prompt", "compressed + one end-of-text token", "compressed + LoRA, 8@qv",
    ]  # fmt: skip
    assert table.nll.tolist() == pytest.approx([2.0, 1.8, 1.9, 3.0, 2.6, 2.9, 2.4])
    assert table.kl.tolist() == pytest.approx([0.0, 0.3, 0.2, 0.8, 0.5, 0.7, 0.4]) and table.seeds["compressed + soft prompt"] == 2
    figure = repair.figure(repair.table(settings, scored, stitched, compared), ["2bit", "75%"], settings)
    assert [axis.get_title() for axis in figure.axes[:2]] == ["2bit", "75%"]
