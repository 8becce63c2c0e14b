"""C7: does the prompt of a broad corpus help zero-shot tasks?"""

import statistics
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd
import seaborn
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ctp_lib.claims import paper, style
from ctp_lib.claims.rules import Verdict, counted, paired_bootstrap, unit_means
from ctp_lib.recovery.none import METHOD as NONE
from ctp_lib.recovery.soft_prompt import METHOD as PROMPT


def table(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """One row a task and level: accuracy without and with the prompt (a mean over seeds), and the paired ``difference`` of the
    two with its interval, ``low`` to ``high``, which holds for all rows together with 95 % confidence (Bonferroni).
    """
    found: dict[tuple[str, str], dict[str, list[Mapping[str, Any]]]] = {}
    for row in rows:
        found.setdefault((row["task"], row["level"]), {}).setdefault(row["method"], []).append(row)
    table = {}
    for at, methods in found.items():
        (none,), prompted = methods[NONE.name], methods[PROMPT.name]
        units = unit_means(row["units"] for row in prompted)
        difference, low, high = paired_bootstrap(units, none["units"], confidence=1 - 0.05 / len(found))
        table[at] = {
            "without": none["value"], "without_stderr": none["stderr"], "prompted": statistics.fmean(row["value"] for row in prompted),
            "difference": difference, "low": low, "high": high, "n": none["n"], "chance": none["chance"],
        }  # fmt: skip
    return pd.DataFrame.from_dict(table, orient="index").rename_axis(["task", "level"])


def verdict(table: pd.DataFrame) -> Verdict:
    """C7: on which tasks and compressed levels the prompt clearly raises accuracy."""
    compressed = table[table.index.get_level_values("level") != "full"]
    better, worse = compressed.low > 0, compressed.high < 0
    by_task = "; ".join(
        f"{task} {100 * rows.difference.mean():+.1f} points" for task, rows in compressed.groupby(level="task", sort=False)
    )
    measured = (
        f"accuracy is clearly higher in {better.sum()} of {len(compressed)} cells and clearly lower in {worse.sum()} "
        f"(mean over levels: {by_task})"
    )
    return Verdict("C7", "the prompt of a broad corpus helps zero-shot tasks", measured, counted(better))


def figure(table: pd.DataFrame) -> Figure:
    """Accuracy with and without a prompt, a panel a task; ``table`` is that of :func:`table`."""
    style.use()
    names = list(table.index.get_level_values("task").unique())
    theirs = ["HellaSwag", "OpenBookQA"]
    panels = len(names) + len(theirs)
    figure, axes = plt.subplots(1, panels, figsize=(3.4 * panels, 4.4), sharey=True, squeeze=False, layout="constrained")
    for axis, task in zip(axes[0][len(names) :], theirs, strict=True):
        _published_tasks(axis, task)
    for axis, name in zip(axes[0], names, strict=False):
        rows = table.loc[name]
        places = range(len(rows))
        axis.errorbar(
            [x - 0.1 for x in places],
            rows.without,
            2 * rows.without_stderr,
            fmt="o",
            color=NONE.colour,
            label="without (2 s.e.)",
            capsize=3,
        )
        against = [rows.without + rows.low, rows.without + rows.high]  # the paired interval, around what is had without
        axis.vlines([x + 0.1 for x in places], *against, color=PROMPT.colour)
        axis.plot(
            [x + 0.1 for x in places],
            rows.prompted,
            "o",
            color=PROMPT.colour,
            label="with soft prompt (paired, 95 % for all cells together)",
        )
        chance = rows.chance.mean()
        axis.axhline(chance, color=style.UNCOMPRESSED, linestyle=":", linewidth=1.3)
        axis.annotate("chance", (1, chance), xycoords=("axes fraction", "data"), ha="right", va="bottom")
        axis.set_xticks(places, rows.index)
        axis.set(title=name.removeprefix("documentation_"), xlabel="compression level", xlim=(-0.5, len(rows) - 0.5))
    axes[0][0].set_ylabel("accuracy")
    figure.legend(*axes[0][0].get_legend_handles_labels(), frameon=False, loc="outside lower center", ncols=2)
    seaborn.despine(figure)
    return figure


def _published_tasks(axis: Axes, task: str) -> None:
    """The paper's accuracy of LLaMA-7B on one task, without (filled) and with (open) the prompt learned on C4."""
    levels = ["full", "4bit", "3bit", "2bit", "50%", "62.5%", "75%"]
    for place, level in enumerate(levels):
        none, prompted = paper.ZERO_SHOT[level][task]
        axis.plot(place - 0.1, none, "o", color=style.PUBLISHED)
        if prompted is not None:
            axis.plot(place + 0.1, prompted, "o", color=style.PUBLISHED, markerfacecolor="white")
    axis.set_xticks(range(len(levels)), levels, rotation=60)
    axis.set_title(f"{task}, LLaMA-7B\n(published; open: with prompt)", color=style.PUBLISHED_TEXT)
    axis.set_xlabel("compression level")
