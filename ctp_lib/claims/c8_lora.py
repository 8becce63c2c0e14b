"""C8: a soft prompt against LoRA on the same compressed model."""

import math

import pandas as pd
import seaborn
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from ctp_lib.claims import paper, style
from ctp_lib.claims.estimate import Rows, gain, grouped, mean_of
from ctp_lib.claims.verdict import Verdict, counted, judge
from ctp_lib.recovery.lora import METHOD as LORA
from ctp_lib.recovery.none import METHOD as NONE
from ctp_lib.recovery.soft_prompt import METHOD as PROMPT

C8 = "a soft prompt beats LoRA, with fewer parameters, also on other corpora"


def table(rows: Rows) -> pd.DataFrame:
    """One row a (level, method, point, evaluated_on): trainable parameters, perplexity over seeds with its extremes, and the estimate of the
    ``gain`` over the same model with nothing learned.

    ``at_edge``: the rate is the lowest or the highest that was tried, or was not swept at this size. ``falling``: by how much validation fell in
    the second half.
    """
    rows = list(rows)
    none = {(row["level"], row["evaluated_on"]): row for row in rows if row["method"] == NONE.name}
    found, table = grouped((row for row in rows if "point" in row), "level", "method", "point", "evaluated_on"), []
    for (level, method, point, corpus), runs in found.items():
        ppl = [row["ppl"] for row in runs]
        table.append(
            {
                "level": level,
                "method": method,
                "point": point,
                "evaluated_on": corpus,
                "trainable_parameters": runs[0]["trainable_parameters"],
                "validation_nll": mean_of(runs, "validation_nll"),
                "at_edge": runs[0]["at_edge"] or not runs[0]["swept"],
                "falling": mean_of(runs, "falling"),
                "ppl_none": none[level, corpus]["ppl"],
                "ppl": mean_of(runs, "ppl"),
                "seeds_low": min(ppl),
                "seeds_high": max(ppl),
                "gain": gain(runs, [none[level, corpus]]),
                "runs": runs,
            }
        )
    return pd.DataFrame(table)


def nearest_lora(table: pd.DataFrame) -> pd.DataFrame:
    """Every prompt beside the LoRA of nearest size at the same level, on the same corpus: ``lead`` estimates how much lower the prompt's NLL
    is, in nats per token.
    """
    prompts, loras = (table[table.method == method] for method in (PROMPT.name, LORA.name))
    pairs = prompts.merge(loras, on=["level", "evaluated_on"], suffixes=("", "_lora"))
    distance = (pairs.trainable_parameters / pairs.trainable_parameters_lora).map(lambda ratio: abs(math.log(ratio)))
    pairs = pairs.loc[distance.groupby([pairs.level, pairs.evaluated_on, pairs.point]).idxmin()]
    return pairs.assign(lead=[gain(row.runs, row.runs_lora) for row in pairs.itertuples()])


def verdict(table: pd.DataFrame, margin: float, *, broad: str) -> Verdict:
    """C8 in three parts, at compressed levels: the prompt that is best on validation beats the LoRA that is, on the corpus of
    training; on the others; and has fewer parameters. A level does not vote where either was not learned to its end.
    """
    here, elsewhere, fewer, silent = {}, {}, {}, {}
    for level, rows in table[table.level != "full"].groupby("level", sort=False):
        prompt, lora = (_best_on_validation(rows[rows.method == method]) for method in (PROMPT.name, LORA.name))
        fewer[level] = lora.trainable_parameters.iloc[0] / prompt.trainable_parameters.iloc[0] - 1
        why = [reason for best in (prompt, lora) for reason in _unfinished(best.iloc[0], margin)]
        for corpus, runs in prompt.runs.items():
            cell = level if corpus == broad else f"{level} on {corpus}"
            (here if corpus == broad else elsewhere)[cell] = gain(runs, lora.runs[corpus])
            silent |= {cell: "; ".join(why)} if why else {}
    parts = (
        judge("the best prompt beats the best LoRA", here, margin, silent=silent),
        judge("also on other corpora", elsewhere, margin, silent=silent),
        counted("with fewer parameters", fewer, 0.0, "of the prompt's parameters"),
    )
    equal = nearest_lora(table)
    equal = equal[equal.evaluated_on == broad]
    leads = "; ".join(
        f"{row.level}, {row.point} ({row.trainable_parameters:,} parameters) and LoRA {row.point_lora} ({row.trainable_parameters_lora:,}): "
        f"{row.lead.mean:+.3f}"
        for row in equal.itertuples()
    )
    figures = f"the prompt's lead over the LoRA of nearest size, nats per token: {leads}"
    return Verdict("C8", C8, parts[0].told("Beats LoRA", "does not beat LoRA"), parts, figures, "10_what_repairs")


def _unfinished(row: pd.Series, margin: float) -> list[str]:
    """Why the best of a method says nothing about how good the method can be."""
    found = ["a learning rate outside of those tried may be better"] if row.at_edge else []
    return [f"{row.method}: {why}" for why in found + (["still learning when training ended"] if row.falling > margin else [])]


def figure(table: pd.DataFrame, uncompressed: str) -> Figure:
    """Perplexity against trainable parameters, a line a method, a panel a level; seeds as bands.

    Every panel spans the same shares of what its level has with nothing learned, so that a height means the same in all. ``table`` is that of
    :func:`table` on one corpus.
    """
    points = {PROMPT.name: "soft prompt, by its vectors", LORA.name: "LoRA, by rank@modules"}
    colours = {method.name: method.colour for method in (PROMPT, LORA)}
    levels = list(table.level.drop_duplicates())
    widths = [5.2] * len(levels) + [3.4]
    figure, axes = plt.subplots(
        1, len(widths), figsize=(sum(widths), 4.4), squeeze=False, width_ratios=widths, layout="constrained"
    )
    _published_comparison(axes[0][-1])
    shares = pd.concat([table.ppl, table.seeds_low, table.seeds_high]) / pd.concat([table.ppl_none] * 3)
    low, high = min(shares.min(), 1.0), max(shares.max(), 1.0)
    for axis, level in zip(axes[0], levels, strict=False):
        rows = table[table.level == level].sort_values("trainable_parameters")
        for method, own in rows.groupby("method"):
            axis.plot(own.trainable_parameters, own.ppl, "o-", color=colours[method], label=points[method])
            axis.fill_between(own.trainable_parameters, own.seeds_low, own.seeds_high, color=colours[method], alpha=0.2)
            for row in own.itertuples():
                at, shift = (row.trainable_parameters, row.ppl), (0, 7 if method == PROMPT.name else -14)
                look = {"textcoords": "offset points", "ha": "center", "fontsize": 9, "color": colours[method]}
                axis.annotate(row.point.removesuffix(" vectors"), at, xytext=shift, **look)
        none = rows.ppl_none.iloc[0]
        axis.axhline(none, color=NONE.colour, linestyle="--", label="nothing learned")
        axis.set(xscale="log", xlabel="trainable parameters", title=uncompressed if level == "full" else level)
        axis.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.xaxis.set_major_formatter("{x:,.0f}")
        axis.xaxis.set_minor_locator(NullLocator())
        axis.margins(x=0.12)
        axis.set_ylim(none * (low - 0.1 * (high - low)), none * (high + 0.15 * (high - low)))
    axes[0][0].set_ylabel(f"perplexity on {table.evaluated_on.iloc[0]} (test)")
    axes[0][0].legend(frameon=False, loc="lower left")
    seaborn.despine(figure)
    return figure


def _best_on_validation(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of the point with the lowest validation NLL, by corpus; validation is on the corpus of training alone."""
    return rows[rows.point == rows.loc[rows.validation_nll.idxmin()].point].set_index("evaluated_on")


def _published_comparison(axis: Axes) -> None:
    """The paper's prompts and LoRA at 3 bits on C4: as printed (filled), and the prompts recomputed as exact (open)."""
    for row in paper.LORA_3BIT:
        if row["data"] == "C4":
            prompt, lora = (row["prompt_size"], row["prompt"]), (row["rank32_size"], row["rank32"])
            axis.plot(*zip(prompt, lora, strict=True), "o-", color=style.PUBLISHED)
            axis.plot(prompt[0], paper.exact(prompt[1]), "o", color=style.PUBLISHED, markerfacecolor="white")
            axis.annotate(
                row["model"], lora, xytext=(0, 7), textcoords="offset points", ha="center", fontsize=10, color=style.PUBLISHED_TEXT
            )
    axis.margins(x=0.3, y=0.15)
    axis.set(xscale="log", xlabel="million trainable parameters")
    axis.set_title("3bit, C4 (published)\nopen: prompt, recomputed as exact", color=style.PUBLISHED_TEXT)
