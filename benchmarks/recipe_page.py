"""What recipes are worth, drawn and told: what a prompt gives back against the tokens that it was shown, and against seconds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import seaborn
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator, PercentFormatter

from benchmarks import time_to_quality
from ctp_lib.recovery.none import METHOD as NONE
from ctp_lib.recovery.soft_prompt import METHOD as PROMPT

COLOURS = {"paper": NONE.colour, "distilled": PROMPT.colour}


def curves(record: Mapping[str, Any]) -> pd.DataFrame:
    """A row a validation: recipe, level, seed, tokens, and ``recovered``, the best share of the gap so far, on validation."""
    full = record["full"]["validation"]
    found = pd.DataFrame(
        {
            "recipe": run["recipe"],
            "level": run["level"],
            "seed": run["seed"],
            "tokens": point["tokens"],
            "recovered": (run["validation_none"] - point["validation_nll"]) / (run["validation_none"] - full),
        }
        for run in record["runs"]
        for point in run["curve"]
    )
    found["recovered"] = found.groupby(["recipe", "level", "seed"]).recovered.cummax()
    return found


def ends(record: Mapping[str, Any]) -> pd.DataFrame:
    """A row a level, on test: mean NLL by recipe at its best step, the tokens that each was given, and ``lead``, ours minus the paper's in
    nats per token over the same seeds, with the least and the most of them.
    """
    runs = pd.DataFrame(record["runs"])[["recipe", "level", "seed", "tokens", "test", "test_none"]]
    wide = runs.pivot(index=["level", "seed"], columns="recipe", values=["test", "tokens", "test_none"]).dropna()
    lead = (wide.test.distilled - wide.test.paper).groupby("level")
    by_level = wide.groupby("level").mean()
    return pd.DataFrame(
        {
            "none": by_level.test_none.paper,
            "full": record["full"]["test"],
            "paper": by_level.test.paper,
            "distilled": by_level.test.distilled,
            "share_of_tokens": by_level.tokens.distilled / by_level.tokens.paper,
            "lead": lead.mean(),
            "least": lead.min(),
            "most": lead.max(),
            "seeds": lead.size(),
        }
    )


def draw(record: Mapping[str, Any]) -> Figure:
    """A panel a level: a thin line a seed, a thick one their mean; dotted, where the paper's recipe ends."""
    found = curves(record)
    levels = list(dict.fromkeys(found.level))
    figure, axes = plt.subplots(1, len(levels), figsize=(4.4 * len(levels), 4.2), layout="constrained", squeeze=False)
    for axis, level in zip(axes[0], levels, strict=True):
        here = found[(found.level == level) & (found.tokens > 0)]
        for recipe, colour in COLOURS.items():
            lines = here[here.recipe == recipe].pivot(index="tokens", columns="seed", values="recovered")
            axis.plot(lines.index, lines, color=colour, linewidth=1, alpha=0.4)
            axis.plot(lines.index, lines.mean(axis=1), color=colour, linewidth=3, label=recipe)
            if recipe == "paper":
                axis.axhline(lines.mean(axis=1).iloc[-1], color=colour, linestyle=":", linewidth=1.5)
        axis.set(xscale="log", xlabel="tokens seen", title=level)
        axis.yaxis.set_major_locator(MultipleLocator(0.05))
        axis.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes[0][0].set_ylabel("share of the gap recovered (validation)")
    axes[0][0].legend(title="recipe", loc="lower right")
    seaborn.despine(figure)
    return figure


def as_markdown(record: Mapping[str, Any]) -> str:
    """The test NLL of both, a row a level, and whether ours is there with its share of the tokens."""
    lines = [
        "| level | seeds | no prompt | uncompressed | the paper's recipe | distilled | distilled minus the paper's (least to most) | of its tokens |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for level, row in ends(record).iterrows():
        reached = row.lead <= 0 and row.share_of_tokens <= record["share"] + 1e-9
        lines.append(
            f"| {level} | {row.seeds:.0f} | {row.none:.4f} | {row.full:.4f} | {row.paper:.4f} | {row.distilled:.4f} | "
            f"{row.lead:+.4f} ({row.least:+.4f} to {row.most:+.4f}) | {row.share_of_tokens:.0%}{'' if reached else ', **missed**'} |"
        )
    return "\n".join(lines)


def timed(shapes: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Of :mod:`benchmarks.time_to_quality`, a row a level and seed: when ours is as good as PEFT's best, and how much sooner that is."""
    yield (
        "How long does it take until a prompt is as good as PEFT makes it? PEFT's plain loop gets the paper's recipe and the minutes of the "
        "table, at the learning rate that was best in a shorter sweep. Ours is the study's own prompt. It gets a tenth of these minutes, and "
        "more only if that is too little. The table says when PEFT came to its lowest validation NLL, and when ours was as low. Validation is "
        f"not counted. The goal is {time_to_quality.GOAL:g} times as fast."
    )
    lines = [
        "| model, level | seed | PEFT's rate | its minutes | its best (nats) | its seconds | ours, seconds | times as fast |",
        "|---" * 8 + "|",
    ]
    for name, record in shapes.items():
        for seed, (theirs, ours) in time_to_quality.pairs(record).items():
            there = time_to_quality.best(theirs["curve"])
            taken, own = (time_to_quality.reached(run["curve"], there) for run in (theirs, ours))
            faster = "never as good, **missed**" if own is None else _times(taken / own)
            lines.append(
                f"| {name} | {seed} | {theirs['rate']:g} | {record['minutes']:g} | {there:.4f} | {taken:.0f} | "
                f"{'' if own is None else f'{own:.0f}'} | {faster} |"
            )
    yield "\n".join(lines)


def _times(faster: float) -> str:
    return f"{faster:.1f}{'' if faster >= time_to_quality.GOAL else ', **missed**'}"


def draw_times(shapes: Mapping[str, Mapping[str, Any]]) -> Figure:
    """A panel a model and level: validation NLL against seconds, a line a seed; dotted, the best of PEFT."""
    figure, axes = plt.subplots(1, len(shapes), figsize=(4.8 * len(shapes), 4.2), layout="constrained", squeeze=False)
    for axis, (name, record) in zip(axes[0], shapes.items(), strict=True):
        for number, (theirs, ours) in enumerate(time_to_quality.pairs(record).values()):
            axis.axhline(time_to_quality.best(theirs["curve"]), color=NONE.colour, linestyle=":", linewidth=1)
            for run, label, colour in ((theirs, "PEFT, the paper's recipe", NONE.colour), (ours, "ours", PROMPT.colour)):
                curve = pd.DataFrame(run["curve"])
                axis.plot(curve.seconds, curve.validation_nll, color=colour, label=None if number else label)
        axis.set(xlabel="seconds of training", title=name)
    axes[0][0].set_ylabel("validation NLL (nats per token)")
    axes[0][0].legend()
    seaborn.despine(figure)
    return figure


def searched(shapes: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Of each search a table: validation NLL by loss and rate, and by length at the best of both."""
    yield (
        "Validation NLL in nats per token. Each step reads one window; one seed. We first tried the losses and starts at several learning rates, and "
        "then other lengths of the prompt with the best of these. `sampled` starts from random tokens of the vocabulary, `first` from the first."
    )
    for name, record in shapes.items():
        rows = pd.DataFrame(record["rows"])
        usual = rows.vectors.mode().item()
        table = rows[rows.vectors == usual].pivot(index=["loss", "start"], columns="rate", values="validation_nll")
        yield f"### {name}, {usual} vectors"
        yield "\n".join(
            [
                f"| loss, start | {' | '.join(f'rate {rate:g}' for rate in table.columns)} |",
                "|---" * (1 + len(table.columns)) + "|",
                *(
                    f"| {', '.join(way)} | {' | '.join('' if nll != nll else f'{nll:.4f}' for nll in row)} |"
                    for way, row in zip(table.index, table.to_numpy(), strict=True)
                ),
            ]
        )
        best = rows.loc[rows.validation_nll.idxmin()]
        yield f"Best: {best.vectors} vectors, rate {best.rate:g}, {best.loss}, {best.start}: {best.validation_nll:.4f}."
        others = rows[rows.vectors != usual]
        if len(others):
            told = (
                f"{row.vectors} vectors ({row.loss}, {row.start}, rate {row.rate:g}): {row.validation_nll:.4f}"
                for row in others.itertuples()
            )
            yield "; ".join(told) + "."
