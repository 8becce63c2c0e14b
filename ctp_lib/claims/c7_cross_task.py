"""C7: does the prompt of a broad corpus help zero-shot tasks?"""

from collections.abc import Iterable

import pandas as pd
import seaborn
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ctp_lib.claims import paper, style
from ctp_lib.claims.estimate import Estimate, Rows, grouped, mean, of_runs
from ctp_lib.claims.verdict import Verdict, judge, pooled
from ctp_lib.recovery.none import METHOD as NONE
from ctp_lib.recovery.soft_prompt import METHOD as PROMPT

POWER = 2.8
"""An effect of so many standard errors is seen in four of five studies (two-sided, 5 %)."""


def table(rows: Rows) -> pd.DataFrame:
    """One row a task and level: accuracy without and with the prompt (a mean over seeds), and as estimates, in shares of the items, what the
    prompt gives (``gain``) and what compression cost (``cost``).
    """
    found, table = grouped(rows, "task", "level", "method"), {}
    for task, level in dict.fromkeys(key[:2] for key in found):
        (none,), (full,) = found[task, level, NONE.name], found[task, "full", NONE.name]
        learned = found[task, level, PROMPT.name]
        prompted = _accuracy(learned, PROMPT.name)
        table[task, level] = {
            "without": none["value"], "prompted": prompted.mean, "gain": prompted - _accuracy([none]),
            "cost": _accuracy([full]) - _accuracy([none]), "n": none["n"], "chance": none["chance"],
            "gain_of_half": _accuracy(learned, PROMPT.name, 0) - _accuracy([none], half=0),
            "cost_of_half": _accuracy([full], half=1) - _accuracy([none], half=1),
        }  # fmt: skip
    return pd.DataFrame.from_dict(table, orient="index").rename_axis(["task", "level"])


def _accuracy(rows: Rows, learned: str | None = None, half: int | None = None) -> Estimate:
    """The share of right answers of one cell, a row a seed; it varies with the items, and with the seeds of what was learned. Of all items, or
    of every second one: the even ones are ``half`` 0, the odd ones 1.
    """
    rows = sorted(rows, key=lambda row: row.get("seed", 0))
    seeds = learned and f"seeds of {learned}, {[row['seed'] for row in rows]}"
    part = slice(None) if half is None else slice(half, None, 2)
    return of_runs([row["units"][part] for row in rows], f"{rows[0]['task']}, {part}", seeds)


def by_cell(table: pd.DataFrame) -> pd.DataFrame:
    """:func:`table` with one name a row, "task at level", and the level as a column."""
    return table.reset_index("level").set_axis([f"{task} at {level}" for task, level in table.index])


def verdict(table: pd.DataFrame, margin: float, unfinished: Iterable[str] = ()) -> Verdict:
    """C7: does the prompt raise accuracy, in the mean over those tasks and compressed levels at which compression costs more than the margin?

    Half of the items says which those are, and the other half what the prompt gives: both compare with the same answers without a prompt, so
    cells that look bad by accident would otherwise seem to recover. Since the halves are independent, the cost need not be clear; whether it is
    changes with the items. Prompts of ``unfinished`` levels were still learning.
    """
    compressed = table[table.index.get_level_values("level") != "full"]
    cells = by_cell(compressed)
    voting = cells[[cost.mean > margin for cost in cells.cost_of_half]]
    effects, still = pooled(voting.gain_of_half), voting.level.isin(list(unfinished)).any()
    part = judge("higher accuracy where compression lowers it", effects, margin, "of the items", unfinished=[""] if still else [])
    by_task = "; ".join(
        f"{task} {100 * mean(list(rows.gain)).mean:+.1f}" for task, rows in compressed.groupby(level="task", sort=False)
    )
    seen = 100 * POWER * next(iter(effects.values())).stderr if effects else float("nan")
    costly = f"compression costs more than {100 * margin:g} points in {len(voting)} of {len(cells)} cells, which vote"
    figures = f"change in points by task, mean over levels: {by_task}; measured on half of the items, {costly}"
    figures += f"; smallest effect that is likely to be detected: {seen:.1f} points" if seen < float("inf") else ""
    says = "a prompt learned on text raises accuracy on zero-shot tasks"
    return Verdict("C7", says, part.told("Raises accuracy", "Does not raise accuracy"), (part,), figures, "09_cross_task")


def figure(table: pd.DataFrame) -> Figure:
    """Accuracy with and without a prompt, a panel a task; ``table`` is that of :func:`table`."""
    names = list(table.index.get_level_values("task").unique())
    theirs = ["HellaSwag", "OpenBookQA"]
    panels = len(names) + len(theirs)
    figure, axes = plt.subplots(1, panels, figsize=(3.4 * panels, 4.4), sharey=True, squeeze=False, layout="constrained")
    for axis, task in zip(axes[0][len(names) :], theirs, strict=True):
        _published_tasks(axis, task)
    for axis, name in zip(axes[0], names, strict=False):
        rows = table.loc[name]
        places = range(len(rows))
        axis.plot([x - 0.1 for x in places], rows.without, "o", color=NONE.colour, label="without")
        ends = [gain.interval(len(table)) for gain in rows.gain]  # paired; drawn around what is had without
        axis.vlines(
            [x + 0.1 for x in places], *(rows.without + [end[side] for end in ends] for side in (0, 1)), color=PROMPT.colour
        )
        axis.plot(
            [x + 0.1 for x in places],
            rows.prompted,
            "o",
            color=PROMPT.colour,
            label="with soft prompt (95 % for all cells together, over items and seeds)",
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
