"""Every figure of the study, drawn from its tidy tables alone.

Equal tables give equal bytes: the salt of SVG ids is fixed, and no date is written.
"""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ctp_lib.study import Level

COLOURS = {"none": "#6b7280", "soft_prompt": "#d9480f", "lora": "#1c7ed6", "hard_prompt": "#7048e8", "full": "#111827"}
"""One colour a method, in every figure."""

NAMES = {"none": "compressed", "soft_prompt": "compressed + soft prompt", "lora": "compressed + LoRA", "full": "uncompressed"}

PANELS = {"Quantised (GPTQ)": ("quantised",), "Pruned (SparseGPT), and pruned + quantised": ("pruned", "joint")}


def style() -> None:
    """Set the look of all figures; call it once in a notebook."""
    seaborn.set_theme(context="notebook", style="ticks", rc={"axes.grid": True, "axes.grid.axis": "y", "grid.alpha": 0.35})
    plt.rcParams.update({"svg.hashsalt": "compress-then-prompt", "svg.fonttype": "path", "figure.dpi": 110, "savefig.dpi": 160})


def save(figure: Figure, folder: Path, name: str) -> None:
    """Write ``<name>.svg`` and ``<name>.png`` without a date, so that equal figures are equal files."""
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / f"{name}.svg", metadata={"Date": None, "Creator": None}, bbox_inches="tight")
    figure.savefig(folder / f"{name}.png", metadata={"Software": None}, bbox_inches="tight")


def perplexity_by_level(table: pd.DataFrame, *, evaluated_on: str) -> Figure:
    """Figure 1: perplexity at every level, with and without a learned prompt, the uncompressed model as a line.

    ``table`` has the columns of ``results/perplexity.csv`` for one model.
    """
    style()
    rows = table[table.evaluated_on == evaluated_on]
    full = rows[(rows.level == "full") & (rows.method == "none")].ppl.item()
    present = {title: _levels(rows, families) for title, families in PANELS.items()}
    present = {title: levels for title, levels in present.items() if levels}
    widths = [len(levels) for levels in present.values()]
    figure, axes = plt.subplots(
        1, len(present), figsize=(11, 4.6), sharey=True, squeeze=False, width_ratios=widths, layout="constrained"
    )
    for axis, (title, levels) in zip(axes[0], present.items(), strict=True):
        _dumbbells(axis, rows, levels, full)
        axis.set_title(title)
    axes[0][0].set_ylabel(f"perplexity on {evaluated_on} (test)")
    axes[0][0].legend(frameon=False, loc="upper left")
    seaborn.despine(figure)
    return figure


def curves_by_level(table: pd.DataFrame) -> Figure:
    """Validation NLL against tokens seen while the prompts were learned, a panel a level. ``table``: ``results/curves.csv``."""
    style()
    levels = _levels(table, ("full", "quantised", "pruned", "joint"))
    columns = 3
    lines = -(-len(levels) // columns)
    figure, axes = plt.subplots(lines, columns, figsize=(11, 2.5 * lines), squeeze=False, layout="constrained")
    for axis, level in zip(axes.flat, levels, strict=False):
        _curve(axis, table[table.level == level], level)
    for axis in axes.flat[len(levels) :]:
        axis.set_axis_off()
    seaborn.despine(figure)
    return figure


def training_curve(curve: list[dict[str, float]], tokens_per_byte: float) -> Figure:
    """The reference model's training: bits per byte on held-out text against million tokens seen."""
    style()
    table = pd.DataFrame(curve)
    figure, axis = plt.subplots(figsize=(7, 3.6), layout="constrained")
    for name, colour, label in (("training_nll", COLOURS["none"], "training"), ("validation_nll", COLOURS["full"], "validation")):
        axis.plot(table.tokens / 1e6, table[name].astype(float) * tokens_per_byte / math.log(2), color=colour, label=label)
    axis.set(xlabel="million tokens seen", ylabel="bits per byte", yscale="log", title="Training of the reference model")
    axis.yaxis.set_major_formatter("{x:.1f}")
    axis.yaxis.set_minor_formatter("{x:.1f}")
    axis.legend(frameon=False)
    seaborn.despine(figure)
    return figure


def _curve(axis: Axes, curve: pd.DataFrame, title: str) -> None:
    tokens = curve.tokens / 1000
    best = curve.validation_nll.to_numpy().argmin()
    axis.plot(tokens, curve.validation_nll, color=COLOURS["soft_prompt"])
    axis.plot(tokens.iloc[best], curve.validation_nll.iloc[best], "o", color=COLOURS["soft_prompt"])
    axis.set(title=title, xlabel="thousand tokens seen", ylabel="validation NLL (nats)")


def _levels(table: pd.DataFrame, families: tuple[str, ...]) -> list[str]:
    """The levels of these families in ``table``, in the study's order."""
    return [level for level in table.level.drop_duplicates() if Level.parse(level).family in families]


def _dumbbells(axis: Axes, rows: pd.DataFrame, levels: list[str], full: float) -> None:
    for place, level in enumerate(levels):
        at = rows[rows.level == level].set_index("method").ppl
        axis.plot([place, place], [at["none"], at["soft_prompt"]], color=COLOURS["soft_prompt"], linewidth=2.5, alpha=0.35, zorder=2)
    for method, side, align in (("none", -0.09, "right"), ("soft_prompt", 0.09, "left")):
        values = [rows[(rows.level == level) & (rows.method == method)].ppl.item() for level in levels]
        axis.scatter(range(len(levels)), values, s=70, color=COLOURS[method], label=NAMES[method], zorder=3)
        for place, value in enumerate(values):
            axis.annotate(f"{value:.1f}", (place + side, value), ha=align, va="center", color=COLOURS[method], fontsize=11)
    axis.axhline(full, color=COLOURS["full"], linestyle="--", linewidth=1.3, label=NAMES["full"], zorder=1)
    axis.annotate(f"{full:.1f}", (1, full), xycoords=("axes fraction", "data"), ha="right", va="bottom", color=COLOURS["full"])
    axis.set_yscale("log")
    axis.yaxis.set_major_formatter("{x:.0f}")
    axis.yaxis.set_minor_formatter("{x:.0f}")
    axis.set_xticks(range(len(levels)), levels)
    axis.set_xlim(-0.6, len(levels) - 0.4)
    axis.set_xlabel("compression level")
