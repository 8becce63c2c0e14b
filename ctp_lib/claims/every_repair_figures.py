"""Figures of every repair side by side: what it adds, takes and costs; what it does elsewhere; where in a window it gains."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ctp_lib.claims import style
from ctp_lib.recovery.base import registry
from ctp_lib.recovery.none import METHOD as NONE
from ctp_lib.settings.study import Study


def figure(table: pd.DataFrame, alone: pd.DataFrame, settings: Study, uncompressed: str) -> Figure:
    """Perplexity against bytes added, seconds to learn, and the time to read and write (times that of the model alone): a row per level."""
    levels = list(table.level.drop_duplicates())
    figure, axes = plt.subplots(
        len(levels), 3, figsize=(15, 4.2 * len(levels) + 1.2), squeeze=False, sharey="row", layout="constrained"
    )
    full, others = alone[alone.level == "full"].ppl.item(), 0
    for row, level in zip(axes, levels, strict=True):
        rows, here = table[table.level == level], alone[alone.level == level].iloc[0]
        slower = (rows["read"] / rows["read, alone"] + rows["write"] / rows["write, alone"]) / 2
        for axis in row[:2]:
            axis.set_xscale("symlog", linthresh=1)
            axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}" if value < 1000 else f"{value / 1000:g}k")
        _points(row[0], rows, rows.bytes_added / 1e3, settings)
        _points(row[1], rows, rows.seconds, settings)
        _points(row[2], rows, slower, settings)
        others += _compressed_otherwise(row[0], alone, here)
        for axis in row:
            axis.axhline(here.ppl, color=NONE.colour, linestyle="--")
            axis.axhline(full, color=style.UNCOMPRESSED, linestyle=":")
        row[0].set_ylabel(f"perplexity at {level}")
        style.logarithmic(row[0])
    labels = (
        "kilobytes added",
        "seconds to learn or compute",
        "time to read a text and write an answer\n(1: the compressed model alone)",
    )
    for axis, label in zip(axes[-1], labels, strict=True):
        axis.set_xlabel(label)
    _legend(figure, table, settings, uncompressed, beside=others > 0)
    seaborn.despine(figure)
    return figure


def _compressed_otherwise(axis: Axes, alone: pd.DataFrame, here: Any) -> int:
    """Draw what other ways to compress make of the model without a repair, where they take at most 1.3 times the bytes and lead to at most twice
    the perplexity: by kilobytes more, and perplexity; how many there are.
    """
    others = alone[(alone.level != here.level) & (alone.stored_bytes <= 1.3 * here.stored_bytes) & (alone.ppl <= 2 * here.ppl)]
    for other in others.itertuples():
        fewer = 1 - other.stored_bytes / here.stored_bytes
        place = max(0.0, other.stored_bytes - here.stored_bytes) / 1e3, other.ppl
        axis.plot(*place, "D", color=style.NEUTRAL, markersize=7)
        said = f"{other.level}, {fewer:.0%} fewer bytes" if fewer > 0.005 else other.level
        axis.annotate(said, place, xytext=(7, 3), textcoords="offset points", fontsize=9, color=style.NEUTRAL)
    axis.margins(x=0.1)
    return len(others)


def _points(axis: Axes, rows: pd.DataFrame, across: pd.Series, settings: Study) -> None:
    for method, group in rows.assign(across=across).groupby("method", sort=False):
        own = registry(settings).get(method)
        mark = {"marker": "x", "markeredgewidth": 2} if own.control else {"marker": "o", "markeredgewidth": 1}
        axis.plot(group.across, group.ppl, linestyle="", color=own.colour, markersize=8, **mark)


def _legend(figure: Figure, table: pd.DataFrame, settings: Study, uncompressed: str, *, beside: bool) -> None:
    lines = [
        Line2D([], [], color=style.UNCOMPRESSED, linestyle=":", label=uncompressed),
        Line2D([], [], color=NONE.colour, linestyle="--", label="compressed"),
    ]
    for method in table.method.drop_duplicates():
        own = registry(settings).get(method)
        mark = {"marker": "x" if own.control else "o", "markeredgewidth": 2 if own.control else 1}
        said = own.label.removeprefix("compressed + ") + (" (control)" if own.control else "")
        lines.append(Line2D([], [], color=own.colour, linestyle="", label=said, **mark))
    if beside:
        lines.append(Line2D([], [], color=style.NEUTRAL, linestyle="", marker="D", label="compressed in another way"))
    figure.legend(handles=lines, loc="outside right center", frameon=False)


def carried(table: pd.DataFrame) -> Figure:
    """What each method gains where it was learned and elsewhere, a panel a level; ``table`` is that of :func:`every_repair.carried`."""
    levels = list(table.index.unique("level"))
    height = max(len(table.loc[level]) for level in levels)
    figure, axes = plt.subplots(
        1, len(levels), figsize=(7.5 * len(levels), 1.6 + 0.5 * height), squeeze=False, layout="constrained"
    )
    bound = table.clip(-1, 1).abs().max().max()
    for axis, level in zip(axes[0], levels, strict=True):
        gains = table.loc[level].dropna(axis=1, how="all").rename(columns=lambda name: name.replace("_", "\n"))
        notes = gains.map(lambda value: "" if np.isnan(value) else f"{value:+.2f}").to_numpy()
        seaborn.heatmap(gains, ax=axis, cmap="PuOr_r", vmin=-bound, vmax=bound, annot=notes, fmt="", cbar=False, linewidths=0.5)
        axis.set(title=f"learned at {level}: gain in nats per token", xlabel="", ylabel="")
        axis.tick_params(axis="both", rotation=0)
    return figure


def by_position(table: pd.DataFrame, none: Sequence[Mapping[str, Any]], settings: Study) -> Figure:
    """What the best size of each method gains in every part of a window, a panel a level."""
    alone = {row["level"]: row["part_nll"] for row in none if row["evaluated_on"] == settings.soft_prompt.corpus}
    levels = list(table.level.drop_duplicates())
    figure, axes = plt.subplots(1, len(levels), figsize=(5.6 * len(levels) + 3, 4.4), squeeze=False, layout="constrained")
    for axis, level in zip(axes[0], levels, strict=True):
        for row in table[(table.level == level) & table.best].itertuples():
            own, parts = registry(settings).get(row.method), np.mean([run["part_nll"] for run in row.runs], axis=0)
            ends = np.arange(1, len(parts) + 1) / len(parts) * (settings.evaluation.window - 1)
            label = own.label.removeprefix("compressed + ") + (" (control)" if own.control else "")
            axis.plot(ends, np.array(alone[level]) - parts, ":" if own.control else "o-", color=own.colour, label=label)
        axis.axhline(0, color=NONE.colour, linestyle="--")
        axis.set(title=level, xlabel="position in the window (tokens, end of each eighth)")
    axes[0][0].set_ylabel("gain (nats per token)")
    axes[0][-1].legend(loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False)
    seaborn.despine(figure)
    return figure
