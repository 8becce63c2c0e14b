"""The look of every figure, set by importing this: one colour per method, the paper's in grey, and files without a date.

Equal tables give equal bytes: the salt of SVG ids is fixed, and no date is written.
"""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

UNCOMPRESSED, NEUTRAL = "#111827", "#6b7280"
"""The uncompressed model, and what no method did; the methods say their own colours."""
PUBLISHED, PUBLISHED_TEXT, PUBLISHED_CELL = "#adb5bd", "#6c757d", "#e9ecef"
"""Figures out of the paper, in every figure."""
DESTROYED = 1000
"""Times the perplexity of the uncompressed model."""
READABLE = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5}
"""Behind a number that a line may cross."""

seaborn.set_theme(context="notebook", style="ticks", rc={"axes.grid": True, "axes.grid.axis": "y", "grid.alpha": 0.35})
plt.rcParams.update({"svg.hashsalt": "compress-then-prompt", "svg.fonttype": "path", "figure.dpi": 110, "savefig.dpi": 160})


def save(figure: Figure, folder: Path, name: str) -> None:
    """Write ``<name>.svg`` and ``<name>.png`` without a date, so that equal figures are equal files."""
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / f"{name}.svg", metadata={"Date": None, "Creator": None}, bbox_inches="tight")
    figure.savefig(folder / f"{name}.png", metadata={"Software": None}, bbox_inches="tight")


def heat(
    axis: Axes,
    gains: pd.DataFrame,
    bound: float,
    *,
    title: str,
    colours: str | Colormap = "PuOr_r",
    shares: pd.DataFrame | None = None,
) -> None:
    """``gains`` in numbers and colours, from -``bound`` (harm) to ``bound`` (better), with ``shares`` below where there are any."""
    shown = gains.rename(index=_two_lines, columns=_two_lines)
    notes = gains.map(("{:+.3f}" if shares is None else "{:+.2f}").format)
    if shares is not None:
        notes += "\n" + shares.map("{:.0%}".format)
    seaborn.heatmap(
        shown, ax=axis, cmap=colours, vmin=-bound, vmax=bound, annot=notes.to_numpy(), fmt="", cbar=False, linewidths=0.5
    )
    axis.set(title=title, xlabel="evaluated on", ylabel="learned on")
    axis.tick_params(axis="both", rotation=0)


def _two_lines(name: str) -> str:
    return name.replace("_", "\n")


def logarithmic(axis: Axes) -> None:
    """A logarithmic axis of perplexity, called when all is drawn: the narrower its range, the more ticks, also where axes share it."""
    axis.set_yscale("log")
    low, high = axis.get_ylim()
    fine = (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0)
    subs = fine if high < 12 * low else (1.0, 2.0, 5.0) if high < 1000 * low else (1.0,)
    axis.yaxis.set_major_locator(LogLocator(subs=subs))
    axis.yaxis.set_major_formatter("{x:,g}")
    axis.yaxis.set_minor_locator(NullLocator())


def ceiling(values: Iterable[float], reference: float) -> float:
    """Up to where perplexities are drawn: beyond :data:`DESTROYED` times that of ``reference`` a model is no language model any more, and an
    arrow at the ceiling stands for it. Infinite where there is none such.
    """
    values = list(values)
    drawn = [value for value in values if value <= DESTROYED * reference]
    return 2.5 * max(drawn) if len(drawn) < len(values) else math.inf


def number(value: float) -> str:
    """A perplexity in as many digits as a figure has room for."""
    return f"{value:.1f}" if value < 1000 else f"{value:,.0f}" if value < 1e6 else f"{value / 1e6:.1f} million"


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table for a page."""
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *rows])
