"""IDP: does a prompt that each input chooses by its attention beat the best single one?"""

from collections.abc import Mapping, Sequence

import pandas as pd
import seaborn
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from ctp_lib.claims import style
from ctp_lib.claims.estimate import Rows, gain, grouped, mean_of
from ctp_lib.claims.verdict import Verdict, judge
from ctp_lib.recovery.each_input import TREATMENTS
from ctp_lib.recovery.idp import METHOD as IDP

PUBLISHED = "published: 1.24 % better on average over nine tasks (Hoang et al. 2023)"


def table(rows: Rows) -> pd.DataFrame:
    """One row a (level, evaluated_on, treatment): perplexity without a prompt and with, the ``gain`` over none and the ``lead`` over the best
    single prompt, as estimates in nats per token; ``runs`` are the rows behind it, a seed each.
    """
    groups, found = grouped(rows, "level", "evaluated_on", "treatment"), []
    for (level, corpus, treatment), runs in groups.items():
        if treatment in TREATMENTS:
            none, single = groups[level, corpus, "none"][:1], groups[level, corpus, "best single"]
            ppl = {"ppl_none": none[0]["ppl"], "ppl": mean_of(runs, "ppl")}
            lead = gain(runs, single)
            about = {"level": level, "evaluated_on": corpus, "treatment": treatment}
            found.append({**about, **ppl, "gain": gain(runs, none), "lead": lead, "runs": runs})
    return pd.DataFrame(found)


def same_for_all(pools: Rows) -> dict[str, str]:
    """The cells in which all inputs chose the same prompt, with the reason: what they chose does not depend on the input. ``pools`` are those of
    :func:`ctp_lib.recovery.each_input.obtain`.
    """
    chosen: dict[str, set[str]] = {}
    for row in pools:
        if row["chosen"]:
            chosen.setdefault(f"{row['level']} on {row['evaluated_on']}", set()).add(row["prompt"])
    return {cell: f"all inputs chose the same prompt, {names.copy().pop()}" for cell, names in chosen.items() if len(names) == 1}


def verdict(table: pd.DataFrame, margin: float, silent: Mapping[str, str]) -> Verdict:
    """The input's own choice against the best single prompt, and against a random choice, at the compressed level. Cells that are ``silent``
    (:func:`same_for_all`) do not vote: there was no choice by input.
    """
    rows = table[table.level != "full"].assign(cell=lambda found: found.level + " on " + found.evaluated_on)
    by = {name: own.set_index("cell") for name, own in rows.groupby("treatment")}
    chosen, random, oracle = (by[name] for name in ("own choice", "random choice", "oracle"))
    over_random = {cell: gain(chosen.runs[cell], random.runs[cell]) for cell in chosen.index}
    parts = (
        judge("the input's own choice beats the best single prompt", chosen.lead.to_dict(), margin, silent=silent),
        judge("the input's own choice beats a random one", over_random, margin, silent=silent),
    )
    most = "; ".join(f"{cell} {lead.mean:+.3f}" for cell, lead in oracle.lead.items())
    says = "a prompt chosen for each input beats the best single prompt"
    figures = f"lead of an oracle (it knows which prompt is best for each input) over the best single prompt: {most} nats per token; {PUBLISHED}"
    headline = parts[0].told("Beats the best single prompt", "does not beat it")
    return Verdict("IDP", says, headline, parts, figures, "12_a_prompt_for_each_input")


def figure(table: pd.DataFrame, uncompressed: str) -> Figure:
    """The gain of each treatment over no prompt, a panel a network, a group a corpus."""
    levels: Sequence[str] = list(table.level.drop_duplicates())
    figure, axes = plt.subplots(
        1, len(levels), figsize=(6.4 * len(levels) + 1, 4.2), squeeze=False, sharey=True, layout="constrained"
    )
    shades = dict(zip(TREATMENTS, (IDP.colour, "#adb5bd", "#d9480f", style.UNCOMPRESSED), strict=True))
    for axis, level in zip(axes[0], levels, strict=True):
        rows = table[table.level == level].assign(gain=lambda found: found.gain.map(lambda estimate: estimate.mean))
        seaborn.barplot(
            rows, x="evaluated_on", y="gain", hue="treatment", palette=shades, ax=axis, errorbar=None, legend=level == levels[-1]
        )
        for bars in axis.containers:
            axis.bar_label(bars, fmt="{:+.2f}", padding=2, fontsize=8)
        axis.axhline(0, color=style.NEUTRAL, linewidth=1)
        axis.set(title=uncompressed if level == "full" else level, xlabel="", ylabel="gain over no prompt (nats per token)")
    axes[0][-1].legend(title="", loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    seaborn.despine(figure)
    return figure
