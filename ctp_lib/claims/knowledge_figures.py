"""Figures of knowledge and reading: what a repair moves, and how much compression is too much."""

import math
from collections.abc import Sequence

import pandas as pd
import seaborn
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator

from ctp_lib.claims import style
from ctp_lib.claims.knowledge import MATCHES, known, over_relations
from ctp_lib.compression.base import registry as compressors
from ctp_lib.evaluation.facts_items import CHOICES
from ctp_lib.recovery.base import registry
from ctp_lib.recovery.none import METHOD as NONE
from ctp_lib.settings.levels import Level
from ctp_lib.settings.study import Study

NEAR = 6
"""Levels within so many percentage points of the uncompressed model get no label."""
FORMS = {"closed_book": ("from memory", "-"), "in_context": ("from a passage", "--")}


def arrows(table: pd.DataFrame, settings: Study, uncompressed: str) -> Figure:
    """Memory on the x axis, reading on the y axis, a panel per relation, a point per level; an arrow leads from a compressed model to the
    repaired one.
    """
    relations = list(table.index.unique("relation"))
    figure, axes = plt.subplots(1, len(relations), figsize=(6.2 * len(relations) + 1.5, 5.2), squeeze=False, layout="constrained")
    shown = table.assign(value=[100 * found.mean for found in table.accuracy]).value
    for axis, relation in zip(axes[0], relations, strict=True):
        points = pd.DataFrame({form: shown.xs((relation, form), level=("relation", "form")) for form in FORMS})
        for (level, method), point in points.iterrows():
            own, place = registry(settings).get(method), (point.closed_book, point.in_context)
            if method != NONE.name:
                alone = points.loc[level, NONE.name]
                arrow = {"arrowstyle": "->", "color": own.colour, "lw": 1.6}
                axis.annotate("", place, xytext=(alone.closed_book, alone.in_context), arrowprops=arrow)
                axis.plot(*place, "o", color=own.colour, markersize=5, label=own.label.removeprefix("compressed + "))
                continue
            colour, said = (style.UNCOMPRESSED, uncompressed) if level == "full" else (NONE.colour, level)
            axis.plot(*place, "s" if level == "full" else "o", color=colour)
            if level == "full" or math.dist(place, points.loc["full", NONE.name]) > NEAR:
                right = level != "full"
                axis.annotate(
                    said, place, xytext=(6 if right else -8, 4 if right else -22), textcoords="offset points", fontsize=9, color=colour,
                    ha="left" if right else "right",
                )  # fmt: skip
        axis.axvline(100 / CHOICES, color=style.NEUTRAL, linestyle=":", linewidth=1)
        axis.axhline(100 / CHOICES, color=style.NEUTRAL, linestyle=":", linewidth=1)
        axis.set(title=relation, xlabel="from memory: % right", ylabel="from a passage: % right")
        axis.margins(0.15)
    handles = dict(reversed(list(zip(*axes[0][-1].get_legend_handles_labels()[::-1], strict=True))))
    if handles:
        figure.legend(handles.values(), handles.keys(), frameon=False, loc="outside lower center", ncols=4)
    seaborn.despine(figure)
    return figure


def by_level(table: pd.DataFrame, settings: Study) -> Figure:
    """Right answers against the share of weights that was pruned, and against bits: a colour a compression method, with 95 % intervals.

    The mean over the relations that vote, or over all where none does; patterns such as 2:4 stand apart as crosses, upright for reading.
    """
    voted = known(table)
    accuracy = over_relations(table, voted or list(table.index.unique("relation")), "accuracy").xs(NONE.name, level="method")
    levels = [level for level in map(Level.parse, settings.knowledge.levels) if level.family in ("pruned", "quantised")]
    figure, axes = plt.subplots(1, 2, figsize=(13, 5.2), sharey=True, layout="constrained")
    methods = list(dict.fromkeys((level.method, level.group) for level in levels))
    colours = dict(zip(methods, seaborn.color_palette("colorblind", len(methods)), strict=True))
    for form, (said, line) in FORMS.items():
        least = 100 * MATCHES * accuracy[form, "full"].mean
        for axis in axes:
            axis.axhline(least, color=style.UNCOMPRESSED, linestyle=line, linewidth=1)
        place = {"xycoords": ("axes fraction", "data"), "va": "center", "fontsize": 9, "bbox": style.READABLE}
        axes[0].annotate(f"95 % of uncompressed, {said}", (0.25, least), **place)
        for (method, group), colour in colours.items():
            own = [one for one in levels if (one.method, one.group) == (method, group)]
            label = f"{compressors(settings).get(method).label}{f', groups of {group}' if group else ''}, {said}"
            _method(axes, accuracy[form], own, colour, line, label)
    for axis in axes:
        axis.axhline(100 / CHOICES, color=style.NEUTRAL, linestyle=":", linewidth=1)
    handles = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    if handles:
        figure.legend(handles.values(), handles.keys(), frameon=False, loc="outside lower center", ncols=4, fontsize=9)
    of = ", ".join(voted) or "no relation votes: mean over all"
    axes[0].set(xlabel="weights pruned, %", ylabel="% right", title=f"pruned ({of})")
    axes[1].set(xlabel="bits per weight", title="quantised")
    axes[1].xaxis.set_major_locator(MultipleLocator(1))
    few, many = axes[1].get_xlim()
    axes[1].set_xlim(many + 0.5, few - 0.5)
    seaborn.despine(figure)
    return figure


def _method(axes: Sequence[Axes], accuracy: pd.Series, levels: Sequence[Level], colour: object, line: str, label: str) -> None:
    """What one compression method does at its ``levels``; ``accuracy`` by level."""
    own = sorted(levels, key=lambda one: (one.sparsity, -(one.bits or 0)))
    pruned = [(100 * one.sparsity, accuracy[str(one)]) for one in own if one.family == "pruned" and not one.pattern]
    patterns = [one for one in own if one.pattern]
    _line(axes[0], [(0, accuracy["full"]), *pruned] if pruned else [], colour, line, label)
    crosses = [(100 * one.sparsity, accuracy[str(one)]) for one in patterns]
    _line(axes[0], crosses, colour, "", "", "X" if line == "-" else "P")
    for one, (across, found) in zip(patterns, crosses if line == "-" else [], strict=line == "-"):
        place = {"xytext": (8, -4), "textcoords": "offset points", "fontsize": 9, "color": colour}
        axes[0].annotate(str(one), (across, 100 * found.mean), **place)
    bits = [(one.bits, accuracy[str(one)]) for one in own if one.family == "quantised"]
    _line(axes[1], bits, colour, line, label)


def _line(axis: Axes, points: Sequence[tuple[float, object]], colour: object, line: str, label: str, marker: str = "o") -> None:
    if points:
        places, found = zip(*points, strict=True)
        means = [100 * one.mean for one in found]
        reach = [100 * (one.interval()[1] - one.mean) for one in found]
        axis.errorbar(
            places, means, reach, color=colour, linestyle=line, marker=marker, capsize=2, elinewidth=1, label=label or None
        )
