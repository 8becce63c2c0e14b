"""Studies of worlds in which nothing is going on, or something known: how often each claim comes out wrong, and how often it is seen.

Effects lie at the edge of the margin where that is the hardest case. Documents, items and seeds vary as the recorded study's do.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch
from test_claims import MARGIN, MARGINS, REACHED, answers
from test_estimate import row, seeds_of

from ctp_lib.claims import (
    c1_hard_prompt,
    c2_c3_recovery,
    c5_cross_dataset,
    c6_cross_compression,
    c7_cross_task,
    c8_lora,
    c11_another_model,
    c12_nearest_tokens,
    transfer,
)
from ctp_lib.claims.verdict import Outcome

pytestmark = pytest.mark.medium
DRAWS = 80
SLACK = 2.6 * math.sqrt(0.05 * 0.95 / DRAWS)
COSTS = {"full": 0.0, "3bit": 0.07, "2bit": 0.6, "50%": 0.1, "75%": 0.9}


class World:
    """One draw of the documents: what a text costs without a prompt, and what any prompt does to it."""

    def __init__(self, rng: np.random.Generator, by_seed: float = 0.004, by_document: float = 0.02):
        self.rng, self.shape, self.spread = rng, (3, 48), (by_seed, by_document)
        self.text = 3 + 0.4 * rng.standard_normal(self.shape[1])

    def none(self, cost: float, **more) -> dict:
        return row("none", *(self.text + cost + 0.02 * self.rng.standard_normal(self.shape[1])), **more)

    def prompted(self, none: dict, gain: float, method: str = "soft_prompt", **more) -> list[dict]:
        """Rows of a prompt that gains ``gain`` in the mean: by seed, by document, and both."""
        seeds, windows = self.shape
        varies = self.spread[0] * self.rng.standard_normal((seeds, 1)) + self.spread[1] * self.rng.standard_normal((1, windows))
        varies = varies + 0.01 * self.rng.standard_normal(self.shape)
        return seeds_of(method, np.asarray(none["window_nll"]) - gain - varies, **more)


def c1(world: World, gain: float, edge: float) -> Outcome:
    rows = []
    for n, level in enumerate(COSTS):
        lead = edge if n == 1 else gain
        items = world.rng.standard_normal(80) * 0.1
        for item in range(80):
            at = {"level": level, "prompt": "paper, long", "item": item}
            rows.append(
                {**at, "text": "hard prompt", "number": 0, "change": items[item] - lead + 0.05 * world.rng.standard_normal()}
            )
        texts = 0.01 * world.rng.standard_normal(10)
        rows += [
            {"level": level, "prompt": "paper, long", "item": item, "text": "neutral", "number": n, "alone": 0.0,
             "change": items[item] + texts[n] + 0.02 * world.rng.standard_normal()}
            for item in range(80) for n in range(10)
        ]  # fmt: skip
    changes = pd.DataFrame(rows)
    return c1_hard_prompt.verdict(c1_hard_prompt.table(changes), c1_hard_prompt.costs(changes), MARGIN).outcome


def c2(world: World, gain: float, edge: float) -> Outcome:
    found = []
    for level, cost, gains in (("full", 0.0, 0.0), ("4bit", 0.5, edge), ("2bit", 1.0, gain)):
        none = world.none(cost)
        found.append({"cell": {"level": level}, "perplexity": [none, *world.prompted(none, gains)]})
    table = c2_c3_recovery.table(found, REACHED, evaluated_on="broad")
    return c2_c3_recovery.verdicts(table, MARGIN)[0].parts[0].outcome


def c3(world: World, gain: float, edge: float) -> Outcome:
    """At the edge, the prompted model lies by the margin behind the uncompressed one."""
    full = world.none(0.0)
    found = [{"cell": {"level": "full"}, "perplexity": [full, *world.prompted(full, 0.0)]}]
    for level, above in (("4bit", edge), ("2bit", gain)):
        none = row("none", *(np.asarray(full["window_nll"]) + 0.05))
        found.append({"cell": {"level": level}, "perplexity": [none, *world.prompted(full, above - 2 * MARGIN)]})
    return c2_c3_recovery.verdicts(c2_c3_recovery.table(found, REACHED, evaluated_on="broad"), MARGIN)[1].outcome


def _transfers(world: World, by: str, gains: dict[tuple, float]) -> pd.DataFrame:
    rows = []
    none = {(at[1], at[2] if len(at) > 2 else "broad"): None for at in gains}
    none |= {("full", corpus): None for _, corpus in none}
    for level, corpus in none:
        none[level, corpus] = world.none(COSTS[level], on=corpus)
        rows.append({"level": level, **none[level, corpus]})
    for (source, level, *corpus), gain in gains.items():
        on = corpus[0] if corpus else "broad"
        rows += [{"level": level, by: source, **found} for found in world.prompted(none[level, on], gain, on=on)]
    return transfer.transfer_table(
        rows, levels=list(COSTS), by=by, seeds=[0, 1, 2], evaluated_on=None if by == "trained_on" else "broad"
    )


def c5(world: World, gain: float, edge: float) -> Outcome:
    """The broad prompt's help elsewhere; and noise confirms no "does not transfer": a direct prompt that helps elsewhere by the margin."""
    gains = {("broad", "2bit", "c"): edge, ("broad", "75%", "c"): gain, ("c", "2bit", "c"): 0.3, ("c", "2bit", "d"): MARGIN,
             ("broad", "2bit", "d"): gain, ("broad", "75%", "d"): gain}  # fmt: skip
    parts = c5_cross_dataset.verdict(_transfers(world, "trained_on", gains), MARGIN, broad="broad").parts
    return "supported" if parts[2].outcome == "supported" and gain <= MARGIN else parts[0].outcome


def c6(world: World, gain: float, edge: float) -> Outcome:
    """Own prompts gain 0.1; what is taken elsewhere gives ``edge`` in the mean over pairs."""
    gains = {(a, b): 0.1 if a == b else edge for a in COSTS for b in COSTS}
    return c6_cross_compression.verdict(_transfers(world, "trained_at_level", gains), MARGIN).parts[0].outcome


def c7(world: World, gain: float, edge: float) -> Outcome:
    """Compression costs 25 points; the prompt gives ``edge`` (in hundredths of a nat: the margin is two points) of them back."""
    rows, points = [], edge / MARGIN * MARGINS.accuracy
    hard = world.rng.random(160)
    for level, share in (("full", 0.7), ("2bit", 0.45), ("75%", 0.45)):
        noisy = np.clip(hard + 0.1 * world.rng.standard_normal(160), 0, 1)
        rows.append(answers(level, "none", (noisy < share) * 1.0))
        for seed in range(3):
            again = np.clip(noisy + 0.03 * world.rng.standard_normal(160), 0, 1)
            rows.append(answers(level, "soft_prompt", (again < share + points) * 1.0, seed))
    return c7_cross_task.verdict(c7_cross_task.table(rows), MARGINS.accuracy).outcome


def c8(world: World, gain: float, edge: float) -> Outcome:
    rows = []
    for level, lead in (("75%", edge), ("2bit", gain)):
        none = world.none(COSTS[level])
        rows.append({"level": level, **none})
        for method, gained in (("soft_prompt", 0.2 + lead), ("lora", 0.2)):
            about = {
                "point": "p",
                "learning_rate": 0.1,
                "at_edge": False,
                "swept": True,
                "validation_nll": 3.0,
                "falling": 0.0,
                "level": level,
            }
            rows += [about | found for found in world.prompted(none, gained, method)]
    return c8_lora.verdict(c8_lora.table(rows), MARGIN, broad="broad").parts[0].outcome


def c11(world: World, gain: float, edge: float) -> Outcome:
    rows = []
    for level, lead in (("full", edge), ("75%", gain)):
        none = world.none(COSTS[level])
        untrained = row("none", *(np.asarray(none["window_nll"]) + 0.03))
        at = {"model": "sibling", "level": level}
        rows += [{**at, "prompt_kind": "none", **none}, {**at, "prompt_kind": "untrained", **untrained}]
        rows += [
            {**at, "prompt_kind": kind, **found}
            for kind, given in (("own", 0.5), ("stitched", lead))
            for found in world.prompted(none, given)
        ]
    return c11_another_model.verdict(c11_another_model.table(rows), MARGIN).parts[0].outcome


CLAIMS: dict[str, Callable[[World, float, float], Outcome]] = {
    "C1": c1, "C2": c2, "C3": c3, "C5": c5, "C6": c6, "C7": c7, "C8": c8, "C11": c11,
}  # fmt: skip
SEEN = {"C1": 0.06, "C2": 0.05, "C3": 0.05, "C5": 0.06, "C6": 0.05, "C7": 0.09, "C8": 0.05, "C11": 0.05}
"""An effect that is far from small, in nats per token (C7: 18 points)."""


def outcomes(claim: str, gain: float, edge: float, **spread: float) -> dict[str, float]:
    """How often each outcome comes of studies in which one cell has the effect ``edge`` and the others ``gain``."""
    rng = np.random.default_rng(int(claim[1:]))
    found = [CLAIMS[claim](World(rng, **spread), gain, edge) for _ in range(DRAWS)]
    return {outcome: found.count(outcome) / DRAWS for outcome in ("supported", "contradicted", "undecided", "not measured")}


@pytest.mark.parametrize("claim", CLAIMS)
def test_nothing_supports_nothing(claim):
    assert outcomes(claim, 0.0, 0.0)["supported"] <= 0.05 + SLACK


@pytest.mark.parametrize("claim", CLAIMS)
def test_at_the_edge_of_the_margin_it_is_rarely_decided(claim):
    """One cell lies on the margin and the others far beyond it: support would be wrong, and so would contradiction."""
    found = outcomes(claim, 1.0, MARGIN)
    assert found["supported"] <= 0.05 + SLACK and found["contradicted"] <= 0.05 + SLACK


@pytest.mark.parametrize("spread", [{"by_seed": 0.05, "by_document": 0.0}, {"by_seed": 0.0, "by_document": 0.2}], ids=str)
@pytest.mark.parametrize("claim", ["C2", "C3", "C5", "C6", "C8", "C11"])
def test_so_it_is_where_one_source_dominates_and_every_cell_lies_on_the_margin(claim, spread):
    found = outcomes(claim, MARGIN, MARGIN, **spread)
    assert found["supported"] <= 0.05 + SLACK and found["contradicted"] <= 0.05 + SLACK


@pytest.mark.parametrize(("shared", "most", "least"), [(0, 0.05 + SLACK, 0.0), (18, 1.0, 0.8)])
def test_prompts_that_point_the_same_way_do_not_yet_name_the_same_tokens(shared, most, least):
    """C12. Displacements of one mean and covariance hit the same hubs; that is chance. Only ``shared`` tokens, meant by every seed, are not."""
    rng, found = np.random.default_rng(12), []
    for _ in range(DRAWS // 4):
        draw = lambda *shape: torch.from_numpy(rng.standard_normal(shape)).float()  # noqa: E731
        vocabulary, shape, drift = draw(300, 12), draw(12, 12), 0.5 * draw(12)
        start = {seed: vocabulary[rng.choice(300, 24, replace=False)] for seed in range(3)}
        meant = 3 * vocabulary[rng.choice(300, shared, replace=False)]
        learned = {}
        for seed, level in itertools.product(range(3), ("3bit", "75%")):
            vectors = start[seed] + drift + draw(24, 12) @ shape / 4
            vectors[:shared] = meant + 0.1 * draw(shared, 12)
            learned[level, seed] = vectors
        moves = c12_nearest_tokens.movement_table(learned, start, vocabulary)
        agreement = c12_nearest_tokens.agreement_table(learned, start, vocabulary)
        found.append(c12_nearest_tokens.verdict(moves, agreement, MARGINS.tokens).outcome)
    assert least <= found.count("supported") / len(found) <= most


@pytest.mark.parametrize("claim", CLAIMS)
def test_an_effect_that_is_there_is_seen(claim):
    found = outcomes(claim, SEEN[claim], SEEN[claim])
    assert found["supported"] >= 0.8 and found["contradicted"] <= 0.05
