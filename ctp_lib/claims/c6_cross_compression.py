"""C6: a prompt learned at one level, used at another."""

import math
import statistics
from collections.abc import Sequence

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from ctp_lib.claims import style
from ctp_lib.claims.rules import Difference, Verdict, clearly, differences, everywhere_lower, together
from ctp_lib.settings.levels import Level


def directions(table: pd.DataFrame) -> pd.DataFrame:
    """Transfers between compressed levels by direction (from the level that costs more, or less) and by family.

    ``share`` is the sum of the transferred gains over that of the gains of the levels' own prompts.
    """
    pairs = _pairs(table)
    groups = pairs.groupby(["direction", "families"])
    found = groups.agg(pairs=("gain", "size"), gain=("gain", "mean"), own_gain=("own", "mean"), clearly_helps=("lower", "mean"))
    return found.assign(share=found.gain / found.own_gain)


def verdict(table: pd.DataFrame) -> Verdict:
    """C6 in three parts: prompts help at other levels; across families too; from more to less compressed better than back."""
    says = "a prompt learned at one level helps at others, across families, best from more to less compressed"
    pairs = _pairs(table)
    across = pairs[pairs.families == "across"]
    if across.empty:
        return Verdict("C6", says, "it takes compressed levels of two families to stitch between", "not measured")
    down = _more_to_less(pairs)
    control = table.reset_index()
    control = control[(control.trained_at_level == "full") & (control.level != "full")]
    measured = (
        f"a prompt of another level clearly helps in {pairs.lower.sum():.0f} of {len(pairs)} cells, across families in "
        f"{across.lower.sum():.0f} of {len(across)}; it keeps "
        f"{pairs.gain.sum() / pairs.own.sum():.0%} of the gain of the level's own prompt, that of the uncompressed model "
        f"{control.gain.sum() / _own(table, control).sum():.0%}; from more to "
        f"less compressed it keeps {-100 * down.mean:+.0f} points more than back (s.e. {100 * down.stderr:.0f})"
    )
    return Verdict(
        "C6", says, measured, together([everywhere_lower(differences(pairs)), everywhere_lower(differences(across)), clearly(down)])
    )


def figure(table: pd.DataFrame, levels: Sequence[str]) -> Figure:
    """What the prompt of each level does at every other. ``table`` is that of ``transfer_table`` over (trained_at_level, level)."""
    style.use()
    gains = table.gain.unstack("level").loc[list(levels), list(levels)]
    figure, axis = plt.subplots(figsize=(9.5, 6.8), layout="constrained")
    style.heat(axis, gains, gains.abs().max().max(), title="Change in NLL (nats a token, below zero is better)")
    axis.set(xlabel="used at", ylabel="learned at")
    return figure


def _more_to_less(pairs: pd.DataFrame) -> Difference:
    """Share of the own gain kept from less to more compressed, less that kept from more to less: below zero, more to less is better.

    Over pairs of levels whose own prompts gain at least four standard errors, so that a share of it means something.
    """
    solid = pairs[pairs.own < -4 * pairs.own_stderr].assign(share=lambda rows: rows.gain / rows.own)
    share = solid.set_index(["source", "level"]).share
    costs = solid.set_index("level").cost.to_dict()
    back = [share[less, more] - share[more, less] for more in costs for less in costs if costs[more] > costs[less]]
    if len(back) < 2:
        return Difference(math.nan, math.nan)
    return Difference(statistics.fmean(back), statistics.stdev(back) / math.sqrt(len(back)))


def _own(table: pd.DataFrame, transfers: pd.DataFrame, what: str = "gain") -> pd.Series:
    """The gain (or its standard error) of the own prompt of each transfer's level."""
    return transfers.level.map({level: table[what][level, level] for level in transfers.level})


def _pairs(table: pd.DataFrame) -> pd.DataFrame:
    flat = table.reset_index().rename(columns={"trained_at_level": "source"})
    cost = flat.drop_duplicates("level").set_index("level").cost
    flat = flat.assign(own=_own(table, flat), own_stderr=_own(table, flat, "gain_stderr"))
    flat = flat[(flat.source != "full") & (flat.level != "full") & (flat.source != flat.level)]
    more = flat.source.map(cost) > flat.level.map(cost)
    kin = flat.source.map(_family) == flat.level.map(_family)
    lower = [gain.lower for gain in differences(flat)]
    return flat.assign(
        direction=more.map({True: "more to less", False: "less to more"}),
        families=kin.map({True: "within", False: "across"}),
        lower=lower,
    )


def _family(level: str) -> str:
    return Level.parse(level).family
