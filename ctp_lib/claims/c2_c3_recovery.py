"""C2 and C3: what a learned prompt, or anything else, gives back at every level."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
import seaborn
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ctp_lib.claims import paper, style
from ctp_lib.claims.estimate import gain, grouped, mean_of, recovered_share
from ctp_lib.claims.verdict import Part, Verdict, judge, without_cost
from ctp_lib.compression import base as compression
from ctp_lib.recovery import base as recovery
from ctp_lib.recovery.none import METHOD as NONE
from ctp_lib.recovery.soft_prompt import METHOD as PROMPT
from ctp_lib.results import cells
from ctp_lib.settings.levels import Level
from ctp_lib.settings.study import Study

PANELS = {("quantised",): "Quantised", ("pruned", "joint"): "Pruned, and pruned + quantised", ("given",): "Your own"}
MILD = 0.10
"""A level is mild when it costs at most this share in perplexity."""


def table(
    scored: Sequence[dict[str, Any]], reached: Mapping[str, Mapping[str, Any]], *, evaluated_on: str, method: str = PROMPT.name
) -> pd.DataFrame:
    """One row a level of ``reached``: perplexity without and with what ``method`` learned, exact and as released, and what it recovers.

    Figures with it are means over seeds, ``seeds_low`` and ``seeds_high`` the extremes of the exact one. Estimates in nats per token:
    ``cost`` of compression, ``gain`` over nothing learned, ``above_full`` over the uncompressed model, and ``nearer``, by how much the
    divergence from that model falls.
    """
    asked = (row for row in cells.rows(scored) if row["evaluated_on"] == evaluated_on)
    rows = grouped(asked, "level", "method")
    full = rows["full", NONE.name]
    table = {}
    for level in reached:
        none, prompted = rows[level, NONE.name], rows[level, method]
        exact = [row["ppl"] for row in prompted]
        table[level] = {
            "bits_per_weight": reached[level]["bits_per_weight"],
            "ppl_none": none[0]["ppl"],
            "ppl": mean_of(prompted, "ppl"),
            "seeds_low": min(exact),
            "seeds_high": max(exact),
            "ppl_released": mean_of(prompted, "ppl_released"),
            "recovered": recovered_share(none[0]["ppl"], mean_of(prompted, "ppl"), full[0]["ppl"]),
            "cost": gain(full, none),
            "gain": gain(prompted, none),
            "above_full": gain(prompted, full),
            "nearer": gain(prompted, none, "window_kl"),
        }
    return pd.DataFrame.from_dict(table, orient="index").rename_axis("level")


def verdicts(table: pd.DataFrame, margin: float, unfinished: Iterable[str] = ()) -> list[Verdict]:
    """C2 over all compressed levels, C3 over the mild ones; and beside them, whether it is repair: does the divergence from the uncompressed
    model fall?

    Levels that cost nothing do not vote. ``unfinished`` are those whose prompts were still learning at their end.
    """
    compressed = table.drop(index="full")
    silent = without_cost(compressed.cost.to_dict(), margin)
    helps = judge("lower NLL", compressed.gain.to_dict(), margin, silent=silent, unfinished=unfinished)
    nearer = judge("a smaller divergence", compressed.nearer.to_dict(), margin, silent=silent, unfinished=unfinished)
    mild = compressed[compressed.ppl_none <= (1 + MILD) * table.ppl_none["full"]]
    matches = judge("as good as the uncompressed model", mild.above_full.to_dict(), -margin, silent=silent, unfinished=unfinished)
    voting = compressed.loc[[cell.name for cell in helps.cells]]
    shares = "no level has a clear cost, so there is no share"
    if len(voting):
        back = [row.gain.mean / row.cost.mean for row in voting.itertuples()]
        shares = f"the prompt gives back {min(back):.0%} to {max(back):.0%} of the lost NLL"
    released = (mild.ppl_released <= table.ppl_none["full"]).sum()
    return [
        _verdict("C2", "a soft prompt lowers the compressed model's perplexity at every level",
                 "helps", "does not help enough", helps, shares),
        _verdict("C3", "at mild levels the prompted model is as good as the uncompressed",
                 "matches", "does not match", matches,
                 f"mild: at most {MILD:.0%} more perplexity; by the released formula, {released} of {len(mild)} would beat the uncompressed"),
        _verdict("repair", "(ours) a prompt brings the predictions nearer to the uncompressed model's",
                 "comes nearer", "does not come nearer", nearer,
                 "an output bias, which does not see the input, lowers this divergence too: notebook 11 compares a prompt with such controls"),
    ]  # fmt: skip


def _verdict(claim: str, says: str, yes: str, no: str, part: Part, figures: str) -> Verdict:
    return Verdict(claim, says, part.told(yes, no), (part,), figures, "04_central_result")


def perplexity_by_level(table: pd.DataFrame, *, evaluated_on: str, settings: Study | None = None) -> Figure:
    """Figure 1: perplexity at every level, without anything and with each method, the uncompressed model as a line; the paper's beside it.

    ``table`` has the columns of ``perplexity.csv`` for one model.
    """
    rows = table[table.evaluated_on == evaluated_on]
    full = rows[(rows.level == "full") & (rows.method == NONE.name)].ppl.item()
    present = {title: levels for families, title in PANELS.items() if (levels := _levels(rows, families))}
    widths = [*(len(levels) for levels in present.values()), 2.6]
    figure, axes = plt.subplots(1, len(present) + 1, figsize=(13.5, 4.6), squeeze=False, width_ratios=widths, layout="constrained")
    methods = [name for name in rows.method.drop_duplicates() if not recovery.registry(settings).get(name).control]
    top = style.ceiling(rows[rows.method.isin(methods)].ppl, full)
    rows = rows.assign(drawn=rows.ppl.clip(upper=top))
    for axis, (title, levels) in zip(axes[0], present.items(), strict=False):
        if axis is not axes[0][0]:
            axis.sharey(axes[0][0])
        _dumbbells(axis, rows, levels, methods, full, settings)
        parsed = [Level.parse(level) for level in levels]
        shown = title if any(level.family == "joint" for level in parsed) else title.partition(",")[0]
        by = dict.fromkeys(compression.registry(settings).get(level.method).label for level in parsed)
        axis.set_title(f"{shown} ({', '.join(by)})")
    _published_dumbbells(axes[0][-1])
    axes[0][0].set_ylabel(f"perplexity on {evaluated_on} (test)")
    for axis in axes[0][: len(present)]:
        style.logarithmic(axis)
    figure.legend(*axes[0][0].get_legend_handles_labels(), frameon=False, loc="outside lower left", ncols=4)
    seaborn.despine(figure)
    return figure


def curves_by_level(table: pd.DataFrame) -> Figure:
    """Validation NLL against tokens seen while the prompts were learned, a panel a level, a line a seed.

    ``table``: ``curve.csv``.
    """
    levels = list(table.level.drop_duplicates())
    columns = 3
    lines = -(-len(levels) // columns)
    figure, axes = plt.subplots(lines, columns, figsize=(11, 2.5 * lines), squeeze=False, layout="constrained")
    for axis, level in zip(axes.flat, levels, strict=False):
        _curve(axis, table[table.level == level], level)
    for axis in axes.flat[len(levels) :]:
        axis.set_axis_off()
    seaborn.despine(figure)
    return figure


def _published_dumbbells(axis: Axes) -> None:
    """The paper's LLaMA-7B on PTB, without a prompt and with the one learned on C4."""
    levels = [level for level in paper.LLAMA_7B_PTB if level != "full"]
    for place, level in enumerate(levels):
        pair = paper.LLAMA_7B_PTB[level]
        axis.plot([place, place], pair, color=style.PUBLISHED, linewidth=2.5, alpha=0.6)
        axis.plot(place, pair[0], "o", color=style.PUBLISHED, markersize=8)
        axis.plot(place, pair[1], "o", color=style.PUBLISHED, markersize=8, markerfacecolor="white")
        for value in pair:
            axis.annotate(
                f"{value:.4g}", (place + 0.14, value), va="center", color=style.PUBLISHED_TEXT, fontsize=10, bbox=style.READABLE
            )
    axis.axhline(paper.LLAMA_7B_PTB["full"][0], color=style.PUBLISHED, linestyle="--", linewidth=1.3)
    axis.set(yscale="log", xlim=(-0.5, len(levels) - 0.2), xlabel="compression level")
    axis.set_title("LLaMA-7B on PTB (published)\nopen: with prompt", color=style.PUBLISHED_TEXT)
    axis.set_xticks(range(len(levels)), levels)
    axis.yaxis.set_major_formatter("{x:.0f}")


def _curve(axis: Axes, curve: pd.DataFrame, title: str) -> None:
    for _, one in curve.groupby("seed"):
        tokens = one.tokens / 1000
        best = one.validation_nll.to_numpy().argmin()
        axis.plot(tokens, one.validation_nll, color=PROMPT.colour, alpha=0.7)
        axis.plot(tokens.iloc[best], one.validation_nll.iloc[best], "o", color=PROMPT.colour, markersize=5)
    axis.set(title=title, xlabel="thousand tokens seen", ylabel="validation NLL (nats)")


def _levels(table: pd.DataFrame, families: tuple[str, ...]) -> list[str]:
    """The levels of these families in ``table``, in the study's order."""
    return [level for level in table.level.drop_duplicates() if Level.parse(level).family in families]


def _dumbbells(axis: Axes, rows: pd.DataFrame, levels: list[str], methods: list[str], full: float, settings: Study | None) -> None:
    """Without and with each of ``methods``, by ``ppl``, and where it is ``drawn``; lines are the extremes of seeds."""
    at = {key: found for key, found in rows.groupby(["level", "method"])}
    for number, name in enumerate(methods):
        method, shift = recovery.registry(settings).get(name), 0.22 * max(0, number - 1)  # the second stands above nothing
        side, align = (-0.09, "right") if name == NONE.name else (0.09, "left")
        for place, level in enumerate(levels):
            found, x = at[level, name], place + shift
            value, y = found.ppl.mean(), found.drawn.mean()
            ends = found.drawn.min(), found.drawn.max()
            if name != NONE.name:
                axis.vlines(x, at[level, NONE.name].drawn.mean(), y, color=method.colour, linewidth=2.5, alpha=0.35, zorder=2)
            axis.vlines(x, *ends, color=method.colour, zorder=3)
            label = method.label if not place else None
            axis.scatter(x, y, s=70, color=method.colour, marker="^" if value > y else "o", label=label, zorder=3)
            look = {"color": method.colour, "fontsize": 11, "bbox": style.READABLE}
            axis.annotate(style.number(value), (x + side, y), ha=align, va="center", **look)
    called = settings.model(rows.model.iloc[0]).as_it_came if settings and "model" in rows else "uncompressed"
    own = at["full", PROMPT.name].ppl.mean() if ("full", PROMPT.name) in at else None
    for value, label, colour, x, align in (
        (full, called, style.UNCOMPRESSED, 1, "right"), (own, f"{called} + soft prompt", PROMPT.colour, 0.01, "left")
    ):  # fmt: skip
        if value is not None:
            axis.axhline(value, color=colour, linestyle="--", linewidth=1.3, label=label, zorder=1)
            side = "top" if value < full else "bottom"
            axis.annotate(f"{value:.1f}", (x, value), xycoords=("axes fraction", "data"), ha=align, va=side, color=colour)
    axis.set_yscale("log")
    axis.set_xticks(range(len(levels)), levels)
    axis.set_xlim(-0.6, len(levels) - 0.4)
    axis.set_xlabel("compression level")
