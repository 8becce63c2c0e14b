"""C6: a prompt learned at one level, used at another."""

from collections.abc import Iterable, Sequence

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from ctp_lib.claims import style
from ctp_lib.claims.estimate import Estimate, ratio
from ctp_lib.claims.verdict import Verdict, judge, pooled, without_cost
from ctp_lib.settings.levels import Level


def directions(table: pd.DataFrame) -> pd.DataFrame:
    """Transfers between compressed levels by direction (from the level that costs more, or less) and by family.

    ``share`` is the sum of the transferred gains over that of the gains of the levels' own prompts.
    """
    pairs = _pairs(table)
    pairs = pairs.assign(gain=pairs.gain.map(_mean).astype(float), own=pairs.own.map(_mean).astype(float))
    found = pairs.groupby(["direction", "families"]).agg(pairs=("gain", "size"), gain=("gain", "mean"), own_gain=("own", "mean"))
    return found.assign(share=found.gain / found.own_gain)


def verdict(table: pd.DataFrame, margin: float, unfinished: Iterable[str] = ()) -> Verdict:
    """C6 in four parts. In the mean over pairs of levels, prompts help at other levels; across families too; and a prompt keeps more of the own
    prompt's gain where it comes from the more compressed level. In no pair does one harm. Levels that cost nothing do not vote. Prompts of
    ``unfinished`` levels were still learning.
    """
    says = "a prompt learned at one level also helps at other levels"
    pairs = _pairs(table)
    pairs = pairs.set_axis([f"{row.source} to {row.level}" for row in pairs.itertuples()])
    pairs = pairs[~pairs.level.isin(without_cost(pairs.drop_duplicates("level").set_index("level").cost.to_dict(), margin))]
    across, lead = pairs[pairs.families == "across"], _lead(pairs, margin)
    still = pairs.index[pairs.source.isin(list(unfinished))]
    some = [""] if len(still) else []
    parts = (
        judge("helps at other levels", pooled(pairs.gain), margin, unfinished=some),
        judge("helps across families", pooled(across.gain), margin, unfinished=some),
        judge("does no harm in any pair", pairs.gain.to_dict(), -margin, unfinished=still),
        judge("more to less keeps more", pooled(lead), 0.0, "of the own gain", unfinished=some),
    )
    figures = "nothing to compare: fewer than two compressed levels, or compression costs too little"
    if len(pairs):
        harmed = sum(cell.high is not None and cell.high < 0 for cell in parts[2].cells)
        worse = sum(gain.mean < -margin for gain in pairs.gain)
        figures = (
            f"in the mean, a prompt of another level lowers the NLL by {pairs.gain.map(_mean).mean():+.3f} nats, the level's own by "
            f"{pairs.own.map(_mean).mean():+.3f}; it harms in {worse} of {len(pairs)} pairs, in {harmed} of them clearly"
        )
    headline = f"{parts[0].told('Helps', 'Does not help')}; pruning to quantisation and back: {parts[1].outcome}; "
    headline += f"towards milder: {parts[3].outcome}"
    return Verdict("C6", says, headline, parts, figures, "08_cross_compression")


def figure(table: pd.DataFrame, levels: Sequence[str]) -> Figure:
    """What the prompt of each level gives at every other. ``table`` is that of ``transfer_table`` over (trained_at_level, level)."""
    gains = table.gain.map(_mean).unstack("level").loc[list(levels), list(levels)]
    figure, axis = plt.subplots(figsize=(9.5, 6.8), layout="constrained")
    style.heat(axis, gains, gains.abs().max().max(), title="What the prompt gives (nats per token, above zero it helps)")
    axis.set(xlabel="used at", ylabel="learned at")
    return figure


def _lead(pairs: pd.DataFrame, margin: float) -> list[Estimate]:
    """By pair of levels: the share of the own gain that is kept from more to less compressed, less that from less to more.

    Over levels whose own prompts clearly help, so that a share means something.
    """
    own = {row.level: row.own for row in pairs.itertuples() if row.own.interval(pairs.level.nunique())[0] > margin}
    share = {(row.source, row.level): ratio(row.gain, own[row.level]) for row in pairs.itertuples() if row.level in own}
    costs = {row.level: row.cost.mean for row in pairs.itertuples() if row.level in own}
    return [share[more, less] - share[less, more] for more in costs for less in costs if costs[more] > costs[less]]


def _pairs(table: pd.DataFrame) -> pd.DataFrame:
    rows = table.reset_index().rename(columns={"trained_at_level": "source"})
    costs = rows.drop_duplicates("level").set_index("level").cost.map(_mean)
    own = {row.level: row.gain for row in rows.itertuples() if row.source == row.level}
    rows = rows[(rows.source != "full") & (rows.level != "full") & (rows.source != rows.level)]
    more, kin = rows.source.map(costs) > rows.level.map(costs), rows.source.map(_family) == rows.level.map(_family)
    return rows.assign(
        own=rows.level.map(own),
        direction=more.map({True: "more to less", False: "less to more"}),
        families=kin.map({True: "within", False: "across"}),
    )


def _mean(estimate: Estimate) -> float:
    return estimate.mean


def _family(level: str) -> str:
    return Level.parse(level).family
