"""The rules of the claims: tables by hand, and every outcome of every verdict."""

from __future__ import annotations

import math
from dataclasses import replace

import pandas as pd
import pytest
import torch
from conftest import ROOT
from test_results import cell, row

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
    paper,
    repair,
    rules,
    transfer,
)
from ctp_lib.claims.rules import Difference
from ctp_lib.settings import study


def test_a_claim_of_several_parts():
    assert rules.together(["holds", "holds"]) == "holds"
    assert rules.together(["holds", "does not hold"]) == "mixed"
    assert rules.together(["does not hold", "does not hold"]) == "does not hold"
    assert rules.together(["holds", "not measured"]) == "holds" and rules.together(["not measured"]) == "not measured"
    assert rules.everywhere_lower([]) == "not measured" == rules.clearly(Difference(math.nan, math.nan))
    assert rules.clearly(Difference(-3.0, 1.0)) == "holds" and rules.clearly(Difference(-1.0, 1.0)) == "does not hold"


# ------------------------------------------------------------------------------------------------ C2, C3, C4


REACHED = {level: {"bits_per_weight": 4.5} for level in ("full", "4bit", "2bit")}


def recovered(*prompted: float) -> pd.DataFrame:
    """The uncompressed model at NLL 1.0, one mild level at 1.05, one severe at 2.0; prompted as given, over windows that vary a little."""
    levels = zip(("full", "4bit", "2bit"), (1.0, 1.05, 2.0), (0.99, *prompted), strict=True)
    cells = []
    for level, none, with_prompt in levels:
        cells.append(cell(level, row("none", none, none)))
        cells.append(cell(level, row("soft_prompt", with_prompt - 0.001, with_prompt + 0.001)))
    return c2_c3_recovery.table(cells, REACHED, evaluated_on="broad")


@pytest.mark.parametrize(
    ("prompted", "second", "third"),
    [
        ((0.99, 1.5), "holds", "holds"),  # both lower, the mild level below the uncompressed model
        ((1.0, 2.0), "mixed", "holds"),
        ((1.04, 1.5), "holds", "does not hold"),
        ((1.06, 2.1), "does not hold", "does not hold"),
    ],
)
def test_recovery(prompted, second, third):
    found = {verdict.claim: verdict.outcome for verdict in c2_c3_recovery.verdicts(recovered(*prompted))}
    assert found == {"C2": second, "C3": third}


def test_the_joint_model_is_judged_by_its_size_and_its_gain():
    sizes = pd.DataFrame([{"level": "50%+4bit", "bits_per_weight": 3.1, "times_smaller": 16 / 3.1, "recovered": 0.5}])
    gains = pd.DataFrame({"gain": [-0.1], "gain_stderr": [0.01]}, index=["50%+4bit"])
    verdict = c4_stored_size.verdict(sizes, gains)
    assert verdict.outcome == "mixed" and "5.16 times smaller, not 8" in verdict.measured
    verdict = c4_stored_size.verdict(sizes.assign(times_smaller=8.0), gains)
    assert verdict.outcome == "holds"
    verdict = c4_stored_size.verdict(sizes, gains.assign(gain=0.1))
    assert verdict.outcome == "does not hold"
    assert c4_stored_size.verdict(sizes.assign(level="4bit"), gains).outcome == "not measured"


# ------------------------------------------------------------------------------------------------------- C1


@pytest.mark.parametrize(("beats", "outcome"), [((-1, -1), "holds"), ((-1, 0), "mixed"), ((0, 1), "does not hold")])
def test_a_hard_prompt_has_to_beat_the_neutral_text(beats, outcome):
    rows = []
    for level, lead in (("4bit", beats[0]), ("2bit", beats[1]), ("full", 0)):
        for item in range(4):
            for text, change in (("neutral", -1 + 0.1 * item), ("hard prompt", -1 + 0.1 * item + lead + 0.01 * (item % 2))):
                rows.append({"level": level, "prompt": "paper, long", "text": text, "item": item, "change": change})
    table = c1_hard_prompt.table(pd.DataFrame(rows))
    assert table.loc[("4bit", "paper, long"), "change_by_neutral"] == pytest.approx(-0.85)
    assert table.helped_by_neutral.tolist() == [1.0, 1.0, 1.0]
    assert c1_hard_prompt.verdict(table).outcome == outcome


# -------------------------------------------------------------------------------------------------- C5 and C6


def transferred(gains: dict[tuple, float], by: str) -> pd.DataFrame:
    rows = [
        {
            "ppl_none": 9.0,
            "ppl": 8.0,
            "recovered": 0.5,
            "cost": costs(at),
            "gain": gain,
            "gain_stderr": 0.01,
            "seeds": 1,
            "runs": [row("p", 2 + gain - 0.001, 2 + gain + 0.001)],
        }
        for at, gain in gains.items()
    ]
    names = [by, "level"] + (["evaluated_on"] if by == "trained_on" else [])
    return pd.DataFrame(rows, index=pd.MultiIndex.from_tuples(gains, names=names))


def costs(at: tuple) -> float:
    return {"full": 0.0, "4bit": 0.1, "3bit": 0.2, "50%": 0.15, "75%": 1.0}[at[1]]


def test_a_transfer_table_by_hand():
    rows = [
        {"level": "full", **row("none", 1.0, 1.0)}, {"level": "4bit", **row("none", 2.0, 2.0)},
        {"level": "4bit", "trained_at_level": "2bit", **row("soft_prompt", 1.4, 1.6), "seed": 1},
        {"level": "4bit", "trained_at_level": "2bit", **row("soft_prompt", 9.0, 9.0), "seed": 7},
    ]  # fmt: skip
    table = transfer.transfer_table(rows, levels=["full", "4bit"], by="trained_at_level", seeds=[0, 1, 2], evaluated_on="broad")
    alone = transfer.transfer_table(rows, levels=["4bit"], by="trained_at_level", seeds=[0, 1, 2], evaluated_on="broad")
    assert alone.drop(columns="runs").equals(table.drop(columns="runs")), "also where the uncompressed model was not asked for"
    found = table.loc["2bit", "4bit"]
    assert (found.gain, found.gain_stderr, found.cost) == (pytest.approx(-0.5), pytest.approx(0.1), pytest.approx(1.0))
    assert found.recovered == pytest.approx((math.e**2 - math.e**1.5) / (math.e**2 - math.e))


PERFECT = {
    ("broad", "c"): -0.3,
    ("c", "c"): -0.6,
    ("c", "d"): 0.2,
    ("c", "broad"): 0.2,
    ("broad", "d"): -0.3,
    ("d", "d"): -0.6,
    ("d", "c"): 0.2,
    ("d", "broad"): 0.2,
    ("broad", "broad"): -0.5,
}


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({}, "holds"),
        ({("broad", "d"): 0.0}, "mixed"),
        ({("c", "d"): -0.3}, "mixed"),
        (
            {
                ("broad", "c"): 0.1,
                ("broad", "d"): 0.1,
                ("c", "c"): 0.2,
                ("d", "d"): 0.2,
                ("c", "d"): -0.2,
                ("c", "broad"): -0.2,
                ("d", "c"): -0.2,
                ("d", "broad"): -0.2,
            },
            "does not hold",
        ),
    ],
)
def test_cross_dataset(changes, outcome):
    two = transferred({("broad", "4bit", on): -0.2 for on in ("broad", "c")}, "trained_on")
    assert c5_cross_dataset.verdict(two, broad="broad").outcome == "not measured", "it takes three corpora"
    gains = {(source, "4bit", on): gain for (source, on), gain in {**PERFECT, **changes}.items()}
    assert c5_cross_dataset.verdict(transferred(gains, "trained_on"), broad="broad").outcome == outcome


def matrix(share) -> pd.DataFrame:
    """Own gains of -1 at every level; what another level's prompt keeps of it is ``share(source, level)``."""
    levels = ["full", "4bit", "50%", "3bit", "75%"]
    return transferred({(a, b): -1.0 if a == b else -share(a, b) for a in levels for b in levels}, "trained_at_level")


COSTS = {level: costs((level, level)) for level in ("full", "4bit", "50%", "3bit", "75%")}


@pytest.mark.parametrize(
    ("share", "outcome"),
    [
        (lambda a, b: 0.9 if COSTS[a] > COSTS[b] else 0.4, "holds"),
        (lambda a, b: 0.4 if COSTS[a] > COSTS[b] else 0.9, "mixed"),
        (lambda a, b: -0.4 if COSTS[a] > COSTS[b] else 0.0, "does not hold"),
    ],
)
def test_cross_compression(share, outcome):
    assert c6_cross_compression.verdict(matrix(share)).outcome == outcome


def test_directions_of_a_transfer():
    table = c6_cross_compression.directions(matrix(lambda a, b: 0.9 if COSTS[a] > COSTS[b] else 0.4))
    assert table.pairs.sum() == 12  # four compressed levels; the uncompressed one is no part of it
    assert table.share.groupby("direction").first().to_dict() == pytest.approx({"less to more": 0.4, "more to less": 0.9})
    only = transferred({(a, b): -1.0 for a in ("full", "4bit") for b in ("full", "4bit")}, "trained_at_level")
    assert c6_cross_compression.verdict(only).outcome == "not measured"


# -------------------------------------------------------------------------------------------------- C7 and C8


def answers(level: str, method: str, *units: float) -> dict:
    return {
        "task": "t",
        "level": level,
        "method": method,
        "units": units,
        "value": sum(units) / len(units),
        "stderr": 0.1,
        "n": len(units),
        "chance": 0.25,
    }


@pytest.mark.parametrize(
    ("prompted", "outcome"),
    [
        (([1.0] * 20, [1.0] * 20), "holds"),
        (([1.0] * 20, [0.0] * 20), "mixed"),
        (([0.0] * 20, [0.0, 1.0] + [0.0] * 18), "does not hold"),
    ],
)
def test_tasks(prompted, outcome):
    rows = [answers("full", "none", *[0.0] * 20), answers("full", "soft_prompt", *[0.0] * 20)]
    for level, units in zip(("4bit", "2bit"), prompted, strict=True):
        rows += [answers(level, "none", *[0.0] * 20), answers(level, "soft_prompt", *units)]
    table = c7_cross_task.table(rows)
    assert table.loc[("t", "4bit"), "difference"] == sum(prompted[0]) / 20
    assert c7_cross_task.verdict(table).outcome == outcome


def learned(level: str, method: str, point: str, parameters: int, on: str, nll: float, best: bool = True) -> dict:
    return {
        "level": level,
        "point": point,
        "trainable_parameters": parameters,
        "best_rate": best,
        "validation_nll": nll,
        **row(method, nll - 0.001, nll + 0.001),
        "evaluated_on": on,
    }


@pytest.mark.parametrize(
    ("here", "there", "size", "outcome"),
    [(1.5, 1.5, 5000, "holds"), (1.5, 1.7, 5000, "mixed"), (1.5, 1.5, 200_000, "mixed"), (1.7, 1.7, 200_000, "does not hold")],
)
def test_soft_prompt_against_lora(here, there, size, outcome):
    rows = []
    for on, prompted in (("broad", here), ("other", there)):
        rows += [
            {"level": "2bit", **row("none", 2.0, 2.0), "evaluated_on": on},
            learned("2bit", "soft_prompt", "20", size, on, prompted), learned("2bit", "soft_prompt", "20", size, on, 0.5, best=False),
            learned("2bit", "lora", "1@qv", 4000, on, 1.9), learned("2bit", "lora", "32@qv", 100_000, on, 1.6),
        ]  # fmt: skip
    table = c8_lora.table(rows)
    assert len(table) == 6
    nearest, (point, nll) = c8_lora.nearest_lora(table), ("1@qv", 1.9) if size == 5000 else ("32@qv", 1.6)
    assert set(nearest.point_lora) == {point} and nearest.lead.tolist() == pytest.approx([here - nll, there - nll])
    assert c8_lora.verdict(table, broad="broad").outcome == outcome


# ---------------------------------------------------------------------------------------- the metric, C9, C11, C12


def test_the_published_rows_against_lora_recomputed():
    # 6.75 ^ (1123 / 1023) = 8.14, and so on: four rows as worked out by hand
    assert [round(paper.exact(entry["prompt"]), 2) for entry in paper.LORA_3BIT] == [8.14, 17.47, 7.00, 15.89]


@pytest.mark.parametrize(("released", "outcome"), [(15.0, "does not hold"), (20.9, "does not hold"), (21.0, "holds")])
def test_the_metric_is_unfit_unless_it_is_the_exact_one(released, outcome):
    rows = [{"prompt_kind": "untrained", "prompt_tokens": 100, "ppl": 21.0, "ppl_released": released}]
    ours = metric_audit.table(rows, none=20.0, full=10.0)
    assert ours.recovered.item() == pytest.approx(-0.1) and ours.recovered_released.item() == pytest.approx((20 - released) / 10)
    theirs = pd.DataFrame(paper.LORA_3BIT)
    theirs["exact"] = theirs.prompt.map(paper.exact)
    assert metric_audit.verdict(ours, theirs, none=20.0, full=10.0).outcome == outcome


@pytest.mark.parametrize(("lora", "full", "outcome"), [(2e6, 3e6, "holds"), (2e6, 5e5, "mixed"), (5e5, 6e5, "does not hold")])
def test_cost(lora, full, outcome):
    steps = pd.DataFrame(
        {"method": ["soft prompt", "LoRA", "full"], "activation_bytes": [1e6, lora, full], "seconds": [1.0, 0.5, 2.0]}
    )
    spent = pd.DataFrame({"level": ["4bit", "75%", "full"], "work": ["train"] * 3, "seconds": [10.0, 30.0, 5.0]})
    transfers = transferred(
        {
            ("4bit", "4bit"): -0.5,
            ("4bit", "75%"): -0.1,
            ("75%", "4bit"): -0.4,
            ("75%", "75%"): -0.5,
            ("full", "4bit"): 0,
            ("full", "75%"): 0,
        },
        "trained_at_level",
    )
    saved = c9_cost.transfer_savings(spent, transfers)
    assert saved.seconds.tolist() == [40.0, 30.0] and saved.share_of_gain.tolist() == pytest.approx([1.0, 0.9])
    assert c9_cost.verdict(steps, saved).outcome == outcome


@pytest.mark.parametrize(("stitched", "outcome"), [((1.5, 1.5), "holds"), ((1.5, 2.5), "mixed"), ((3.5, 3.5), "does not hold")])
def test_another_model(stitched, outcome):
    rows = []
    for level, nll in zip(("full", "2bit"), stitched, strict=True):
        for kind, value in (("none", 2.0), ("own", 1.0), ("untrained", 3.0), ("stitched", nll)):
            rows.append({"level": level, "prompt_kind": kind, **row("x", value - 0.001, value + 0.001)})
            if kind == "none":
                rows[-1] |= row("none", 2.0, 2.0)
    assert c11_another_model.verdict(c11_another_model.table(rows)).outcome == outcome


def test_reading_counts_what_stayed_and_what_seeds_share():
    vocabulary = torch.eye(10)
    start = {0: vocabulary[:2], 1: vocabulary[2:4]}
    learned_prompts = {("4bit", 0): vocabulary[[0, 5]] * 2, ("4bit", 1): vocabulary[[6, 5]]}
    moves = c12_nearest_tokens.movement_table(learned_prompts, start, vocabulary)
    assert moves.still_start.tolist() == [0.5, 0.0] and moves.moved[("4bit", 0)] == pytest.approx(1.0)
    agreement = c12_nearest_tokens.agreement_table(learned_prompts, start, vocabulary)
    assert agreement.shared.tolist() == [1] and 0 <= agreement.by_chance.item() < 0.8  # one name against two, of ten: 0.2
    same = {("4bit", 0): start[0], ("4bit", 1): start[0]}  # what never left its start names nothing
    assert c12_nearest_tokens.agreement_table(same, {0: start[0], 1: start[0]}, vocabulary).shared.tolist() == [0]


@pytest.mark.parametrize(
    ("shared", "outcome"), [((3.0, 3.1, 2.9), "holds"), ((0.4, 0.5, 0.4), "does not hold"), ((3.0,), "not measured")]
)
def test_reading(shared, outcome):
    moves = pd.DataFrame({"moved": [1.0], "cosine_to_start": [0.5], "still_start": [0.5]})
    agreement = pd.DataFrame({"shared": shared, "by_chance": [0.4] * len(shared)})
    assert c12_nearest_tokens.verdict(moves, agreement).outcome == outcome


def test_a_verdict_of_another_study_is_not_in_the_ledger(tmp_path):
    """A clone holds the verdicts that are committed; a study without another model did not ask C11."""
    settings = replace(study.load(), root=tmp_path)
    for claim in ("C1", "C11"):
        rules.Verdict(claim, "says", "measured", "mixed").write(settings, "reference")
    assert list(ledger.collect(settings).claim) == ["C1", "C11"]
    without = replace(settings, another_model=replace(settings.another_model, pairs=()))
    assert list(ledger.collect(without).claim) == ["C1"]


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
        "uncompressed", "uncompressed, behind its own prompt", "uncompressed, behind that prompt", "compressed", "compressed + soft prompt",
        "compressed + one end-of-text token", "compressed + LoRA, 8@qv",
    ]  # fmt: skip
    assert table.nll.tolist() == pytest.approx([2.0, 1.8, 1.9, 3.0, 2.6, 2.9, 2.4])
    assert table.kl.tolist() == pytest.approx([0.0, 0.3, 0.2, 0.8, 0.5, 0.7, 0.4]) and table.seeds["compressed + soft prompt"] == 2
    figure = repair.figure(repair.table(settings, scored, stitched, compared), ["2bit", "75%"], settings)
    assert [axis.get_title() for axis in figure.axes[:2]] == ["2bit", "75%"]
