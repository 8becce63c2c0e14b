"""C5: a prompt learned on one corpus, used on another."""

import math
import statistics

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from ctp_lib.claims import paper, style
from ctp_lib.claims.rules import Verdict, counted, differences, everywhere_lower, over_seeds, together


def verdict(table: pd.DataFrame, *, broad: str) -> Verdict:
    """C5, at compressed levels, in three parts: the broad prompt helps elsewhere; a direct one is better on its own corpus; and does
    not help on the others.
    """
    says = "a prompt learned on a broad corpus helps on others; one learned directly is better there and does not transfer"
    flat = table.reset_index()
    flat = flat[flat.level != "full"]
    if flat.evaluated_on.nunique() < 3:
        return Verdict("C5", says, "it takes three corpora, and a compressed level to compare them at", "not measured")
    transferred = flat[(flat.trained_on == broad) & (flat.evaluated_on != broad)]
    direct = flat[(flat.trained_on != broad) & (flat.evaluated_on == flat.trained_on)]
    elsewhere = flat[(flat.trained_on != broad) & (flat.evaluated_on != flat.trained_on)]
    both = direct.merge(transferred, on=["level", "evaluated_on"], suffixes=("", "_transferred"))
    better = [over_seeds(row.runs, row.runs_transferred) for row in both.itertuples()]
    helps, spoilt = differences(transferred), [gain.lower for gain in differences(elsewhere)]
    parts = {
        "helps": everywhere_lower(helps),
        "better": everywhere_lower(better),
        "alone": counted(not helped for helped in spoilt),
    }
    measured = (
        f"the {broad} prompt clearly helps in {sum(gain.lower for gain in helps)} of {len(helps)} cells of other corpora (mean "
        f"{transferred.gain.mean():+.3f} nats); a prompt learned there is clearly better in {sum(d.lower for d in better)} of {len(better)} "
        f"(lead {statistics.fmean(d.mean for d in better):+.3f}); taken to yet another corpus it clearly helps in {sum(spoilt)} of "
        f"{len(spoilt)} (mean {elsewhere.gain.mean():+.3f}); {direct.seeds.min()} to {transferred.seeds.max()} seeds a cell"
    )
    return Verdict("C5", says, measured, together(parts.values()))


def figure(table: pd.DataFrame) -> Figure:
    """What a prompt changes on every corpus, by where it was learned: a heat map a level, and the paper's beside them.

    ``table`` is that of :func:`ctp_lib.claims.transfer.transfer_table` over (trained_on, level, evaluated_on).
    """
    style.use()
    flat = table.reset_index()
    levels, corpora = list(flat.level.drop_duplicates()), list(flat.evaluated_on.drop_duplicates())
    figure, axes = plt.subplots(
        1, len(levels) + 1, figsize=(4 * len(levels) + 3.4, 4.2), layout="constrained", width_ratios=[3] * len(levels) + [2]
    )
    bound = flat.gain.abs().max()
    for axis, level in zip(axes, levels, strict=False):
        rows = flat[flat.level == level].set_index(["trained_on", "evaluated_on"])
        gains, shares = (rows[column].unstack().loc[corpora, corpora] for column in ("gain", "recovered"))
        style.heat(
            axis, gains, bound, title="uncompressed" if level == "full" else level, shares=None if level == "full" else shares
        )
    none, full = paper.LLAMA_7B_3BIT_TRANSFER["none"], paper.LLAMA_7B_3BIT_TRANSFER["full"]
    theirs = pd.DataFrame({source: paper.LLAMA_7B_3BIT_TRANSFER[source] for source in ("c4", "wikitext2")}).T[list(none)]
    style.heat(
        axes[-1],
        (theirs / pd.Series(none)).map(math.log),
        3,
        title="LLaMA-7B, 3bit\n(published)",
        colours=ListedColormap([style.PUBLISHED_CELL]),
        shares=(pd.Series(none) - theirs) / (pd.Series(none) - pd.Series(full)),
    )
    for axis in axes[1:]:
        axis.set_ylabel("")
    figure.suptitle("Change in NLL (nats a token, below zero is better), and share of the lost perplexity that is back")
    return figure
