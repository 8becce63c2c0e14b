"""C8: a soft prompt against LoRA on the same compressed model."""

import math
import statistics
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd
import seaborn
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ctp_lib.claims import paper, style
from ctp_lib.claims.rules import Verdict, counted, everywhere_lower, over_seeds, together
from ctp_lib.recovery.lora import METHOD as LORA
from ctp_lib.recovery.none import METHOD as NONE
from ctp_lib.recovery.soft_prompt import METHOD as PROMPT

C8 = "a soft prompt beats LoRA on the same compressed model, with fewer parameters, also when transferred"


def table(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """One row a (level, method, point, evaluated_on), learning rates at their best: trainable parameters, perplexity over seeds
    with its extremes, and the gain over the same model with nothing learned.
    """
    rows = list(rows)
    none = {(row["level"], row["evaluated_on"]): row for row in rows if row["method"] == NONE.name}
    found: dict[tuple[str, str, str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        if row.get("best_rate"):
            found.setdefault((row["level"], row["method"], row["point"], row["evaluated_on"]), []).append(row)
    table = []
    for (level, method, point, corpus), runs in found.items():
        gain, ppl = over_seeds(runs, [none[level, corpus]]), [row["ppl"] for row in runs]
        table.append(
            {
                "level": level,
                "method": method,
                "point": point,
                "evaluated_on": corpus,
                "trainable_parameters": runs[0]["trainable_parameters"],
                "validation_nll": statistics.fmean(row["validation_nll"] for row in runs),
                "ppl_none": none[level, corpus]["ppl"],
                "ppl": statistics.fmean(ppl),
                "seeds_low": min(ppl),
                "seeds_high": max(ppl),
                "gain": gain.mean,
                "gain_stderr": gain.stderr,
                "runs": runs,
            }
        )
    return pd.DataFrame(table)


def nearest_lora(table: pd.DataFrame) -> pd.DataFrame:
    """Every prompt beside the LoRA of nearest size at the same level, on the same corpus: ``lead`` is the paired difference of
    their NLL (negative is better for the prompt), with its standard error.
    """
    prompts, loras = (table[table.method == method] for method in (PROMPT.name, LORA.name))
    pairs = prompts.merge(loras, on=["level", "evaluated_on"], suffixes=("", "_lora"))
    distance = (pairs.trainable_parameters / pairs.trainable_parameters_lora).map(lambda ratio: abs(math.log(ratio)))
    pairs = pairs.loc[distance.groupby([pairs.level, pairs.evaluated_on, pairs.point]).idxmin()]
    leads = [over_seeds(row.runs, row.runs_lora) for row in pairs.itertuples()]
    return pairs.assign(lead=[lead.mean for lead in leads], lead_stderr=[lead.stderr for lead in leads])


def verdict(table: pd.DataFrame, *, broad: str) -> Verdict:
    """C8 in three parts, at compressed levels: the prompt that is best on validation clearly beats the LoRA that is, on the corpus of
    training; on the others; and has fewer parameters.
    """
    compressed = table[table.level != "full"]
    here, elsewhere, fewer = [], [], []
    for _, rows in compressed.groupby("level", sort=False):
        prompt, lora = (_best_on_validation(rows[rows.method == method]) for method in (PROMPT.name, LORA.name))
        fewer.append(prompt.trainable_parameters.iloc[0] < lora.trainable_parameters.iloc[0])
        for corpus, runs in prompt.runs.items():
            (here if corpus == broad else elsewhere).append(over_seeds(runs, lora.runs[corpus]))
    if not here:
        return Verdict("C8", C8, "no compressed level was compared", "not measured")
    equal = nearest_lora(table)
    equal = equal[equal.evaluated_on == broad]
    leads = [rows.lead.mean() for rows in (equal[equal.level != "full"], equal[equal.level == "full"])]
    seeds = min(len(runs) for runs in compressed.runs)
    measured = (
        f"chosen on validation, the best prompt against the best LoRA: {statistics.fmean(d.mean for d in here):+.3f} nats on {broad}, "
        f"{statistics.fmean(d.mean for d in elsewhere):+.3f} elsewhere; at about equal parameters {leads[0]:+.3f} on compressed models, "
        f"{leads[1]:+.3f} on the uncompressed one (below zero the prompt is better; {seeds} seed{'s' if seeds > 1 else ''})"
    )
    return Verdict("C8", C8, measured, together([everywhere_lower(here), everywhere_lower(elsewhere), counted(fewer)]))


def figure(table: pd.DataFrame) -> Figure:
    """Perplexity against trainable parameters, a line a method, a panel a level; seeds as bands.

    Every panel spans the same shares of what its level has with nothing learned, so that a height means the same in all. ``table`` is that of
    :func:`table` on one corpus.
    """
    style.use()
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
        axis.set(xscale="log", xlabel="trainable parameters", title="uncompressed" if level == "full" else level)
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
    """The paper's prompts and LoRA at 3 bits on C4: as printed (filled), and with the averaging undone (open)."""
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
    axis.set_title("3bit, C4 (published)\nopen: prompt, averaging undone", color=style.PUBLISHED_TEXT)
