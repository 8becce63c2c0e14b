"""C5: a prompt learned on one corpus, used on another."""

import math
from collections.abc import Iterable

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from ctp_lib.claims import paper, style
from ctp_lib.claims.estimate import flat, gain
from ctp_lib.claims.verdict import Verdict, judge, without_cost


def verdict(table: pd.DataFrame, margin: float, *, broad: str, unfinished: Iterable[str] = ()) -> Verdict:
    """C5, at compressed levels, in three parts: the broad prompt helps elsewhere; a direct one is better on its own corpus; and does
    not help on the others. ``unfinished`` are the levels whose broad prompts were still learning.
    """
    says = "a broad prompt helps everywhere, a direct one only on its corpus"
    rows = table.reset_index()
    rows = rows[rows.level != "full"]
    rows["cell"] = rows.level + " on " + rows.evaluated_on
    own, taken = rows.trained_on == rows.evaluated_on, rows.trained_on == broad
    transferred = rows[taken & ~own].set_index("cell")
    direct, elsewhere = rows[~taken & own].set_index("cell"), rows[~taken & ~own]
    elsewhere = elsewhere.set_axis(elsewhere.level + " from " + elsewhere.trained_on + " to " + elsewhere.evaluated_on)
    better = {cell: gain(direct.runs[cell], transferred.runs[cell]) for cell in direct.index if cell in transferred.index}
    silent = without_cost(transferred.cost.to_dict(), margin)
    still = transferred.index[transferred.level.isin(list(unfinished))]
    parts = (
        judge("the broad prompt helps elsewhere", transferred.gain.to_dict(), margin, silent=silent, unfinished=still),
        judge("a direct prompt is better on its own corpus", better, margin),
        judge("a direct prompt does not help elsewhere", (-1.0 * elsewhere.gain).to_dict(), -margin,
              silent=without_cost(elsewhere.cost.to_dict(), margin)),
    )  # fmt: skip
    helps, better, local = parts
    headline = f"{helps.told('helps', 'does not help')}; direct better: {better.outcome}; useless elsewhere: {local.outcome}"
    means = [f"{what} {part.estimate:+.3f}" for what, part in (
        ("the broad prompt elsewhere", helps), ("the lead of a direct one on its own corpus", better)
    ) if part.estimate is not None]  # fmt: skip
    if local.estimate is not None:
        means.append(f"a direct one elsewhere {-local.estimate:+.3f}")
    return Verdict("C5", says, headline, parts, f"means in nats per token: {', '.join(means)}", "07_cross_dataset")


def figure(table: pd.DataFrame, uncompressed: str) -> Figure:
    """What a prompt changes on every corpus, by where it was learned (a :func:`transfer_table`): a heat map a level, beside the paper's."""
    cells = flat(table.drop(columns=["cost", "runs"])).reset_index()
    levels, corpora = list(cells.level.drop_duplicates()), list(cells.evaluated_on.drop_duplicates())
    figure, axes = plt.subplots(
        1, len(levels) + 1, figsize=(4 * len(levels) + 3.4, 4.2), layout="constrained", width_ratios=[3] * len(levels) + [2]
    )
    bound = cells.gain.abs().max()
    for axis, level in zip(axes, levels, strict=False):
        rows = cells[cells.level == level].set_index(["trained_on", "evaluated_on"])
        gains, shares = (rows[column].unstack().loc[corpora, corpora] for column in ("gain", "recovered"))
        style.heat(axis, gains, bound, title=uncompressed if level == "full" else level, shares=None if level == "full" else shares)
    theirs = pd.DataFrame(paper.LLAMA_7B_3BIT_TRANSFER).T
    none, learned = theirs.loc["none"], theirs.loc[["c4", "wikitext2"]]
    gains, shares = -(learned / none).map(math.log), (none - learned) / (none - theirs.loc["full"])
    grey = ListedColormap([style.PUBLISHED_CELL])
    style.heat(axes[-1], gains, 3, title="LLaMA-7B, 3bit\n(published)", colours=grey, shares=shares)
    for axis in axes[1:]:
        axis.set_ylabel("")
    figure.suptitle(
        "What the prompt gives (nats per token, above zero it helps), and the share of the lost perplexity that is back"
    )
    return figure
