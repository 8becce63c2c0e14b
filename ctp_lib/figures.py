"""Every figure of the study, drawn from its tidy tables alone.

Equal tables give equal bytes: the salt of SVG ids is fixed, and no date is written.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, PercentFormatter

from ctp_lib import published
from ctp_lib.study import Level

COLOURS = {"none": "#6b7280", "soft_prompt": "#d9480f", "lora": "#1c7ed6", "hard_prompt": "#7048e8", "full": "#111827"}
"""One colour a method, in every figure."""

PUBLISHED, PUBLISHED_TEXT, PUBLISHED_CELL = "#adb5bd", "#6c757d", "#e9ecef"
"""Figures out of the paper, in every figure."""

READABLE = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5}
"""Behind a number that a line may cross."""

NAMES = {
    "none": "compressed",
    "soft_prompt": "compressed + soft prompt",
    "lora": "compressed + LoRA",
    "full": "uncompressed",
}

POINTS = {"soft_prompt": "soft prompt, by its vectors", "lora": "LoRA, by rank@modules"}
"""What stands at the points of a line."""

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
    """Figure 1: perplexity at every level, with and without a learned prompt, the uncompressed model as a line; the paper's beside it.

    ``table`` has the columns of ``results/perplexity.csv`` for one model.
    """
    style()
    rows = table[table.evaluated_on == evaluated_on]
    full = rows[(rows.level == "full") & (rows.method == "none")].ppl.item()
    present = {title: _levels(rows, families) for title, families in PANELS.items()}
    present = {title: levels for title, levels in present.items() if levels}
    widths = [*(len(levels) for levels in present.values()), 2.6]
    figure, axes = plt.subplots(1, len(present) + 1, figsize=(13.5, 4.6), squeeze=False, width_ratios=widths, layout="constrained")
    for axis, (title, levels) in zip(axes[0], present.items(), strict=False):
        if axis is not axes[0][0]:
            axis.sharey(axes[0][0])
        _dumbbells(axis, rows, levels, full)
        axis.set_title(title)
    _published_dumbbells(axes[0][-1])
    axes[0][0].set_ylabel(f"perplexity on {evaluated_on} (test)")
    axes[0][0].legend(frameon=False, loc="upper left")
    seaborn.despine(figure)
    return figure


def curves_by_level(table: pd.DataFrame) -> Figure:
    """Validation NLL against tokens seen while the prompts were learned, a panel a level, a line a seed.

    ``table``: ``results/curve.csv``.
    """
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


def training_curve(curve: list[dict[str, float]], tokens_per_byte: float, *, name: str) -> Figure:
    """The training of the model ``name``: bits per byte on held-out text against million tokens seen."""
    style()
    table = pd.DataFrame(curve)
    figure, axis = plt.subplots(figsize=(7, 3.6), layout="constrained")
    for column, colour, label in (
        ("training_loss", COLOURS["none"], "training"),
        ("validation_nll", COLOURS["full"], "validation"),
    ):
        axis.plot(table.tokens / 1e6, table[column].astype(float) * tokens_per_byte / math.log(2), color=colour, label=label)
    last = table.iloc[-1].validation_nll * tokens_per_byte / math.log(2)
    axis.annotate(f"{last:.2f}", (table.tokens.iloc[-1] / 1e6, last), xytext=(4, 0), textcoords="offset points", va="center")
    axis.set(xlabel="million tokens seen", ylabel="bits per byte", ylim=(0.9, 2.2), title=f"Training of the {name} model")
    axis.legend(frameon=False)
    seaborn.despine(figure)
    return figure


def hard_prompts(changes: pd.DataFrame) -> Figure:
    """How each item's right continuation changes behind a written prompt, beside a neutral text of equal length.

    ``changes`` has level, prompt, text (hard prompt or neutral) and change in nats a token.
    """
    style()
    figure, axis = plt.subplots(figsize=(11, 4.4), layout="constrained")
    colours = {"hard prompt": COLOURS["hard_prompt"], "neutral": COLOURS["none"]}
    seaborn.boxplot(changes, x="level", y="change", hue="text", palette=colours, ax=axis, width=0.7, fliersize=2, linewidth=1.2)
    axis.axhline(0, color=COLOURS["full"], linewidth=1)
    axis.set(
        xlabel="compression level",
        ylabel="change in NLL (nats a token)\nbelow zero it helps",
        title="What a text before the document does to its items",
    )
    axis.legend(title=None, frameon=False)
    seaborn.despine(figure)
    return figure


def cross_dataset(table: pd.DataFrame) -> Figure:
    """What a prompt changes on every corpus, by where it was learned: a heat map a level, and the paper's beside them.

    ``table`` is that of :func:`ctp_lib.claims.transfer_table` over (trained_on, level, evaluated_on).
    """
    style()
    flat = table.reset_index()
    levels, corpora = list(flat.level.drop_duplicates()), list(flat.evaluated_on.drop_duplicates())
    figure, axes = plt.subplots(
        1, len(levels) + 1, figsize=(4 * len(levels) + 3.4, 4.2), layout="constrained", width_ratios=[3] * len(levels) + [2]
    )
    bound = flat.gain.abs().max()
    for axis, level in zip(axes, levels, strict=False):
        rows = flat[flat.level == level].set_index(["trained_on", "evaluated_on"])
        gains, shares = (rows[column].unstack().loc[corpora, corpora] for column in ("gain", "recovered"))
        _heat(axis, gains, bound, title="uncompressed" if level == "full" else level, shares=None if level == "full" else shares)
    none, full = published.LLAMA_7B_3BIT_TRANSFER["none"], published.LLAMA_7B_3BIT_TRANSFER["full"]
    theirs = pd.DataFrame({source: published.LLAMA_7B_3BIT_TRANSFER[source] for source in ("c4", "wikitext2")}).T[list(none)]
    _heat(
        axes[-1],
        (theirs / pd.Series(none)).map(math.log),
        3,
        title="LLaMA-7B, 3bit\n(published)",
        colours=ListedColormap([PUBLISHED_CELL]),
        shares=(pd.Series(none) - theirs) / (pd.Series(none) - pd.Series(full)),
    )
    for axis in axes[1:]:
        axis.set_ylabel("")
    figure.suptitle("Change in NLL (nats a token, below zero is better), and share of the lost perplexity that is back")
    return figure


def cross_compression(table: pd.DataFrame, levels: Sequence[str]) -> Figure:
    """What the prompt of each level does at every other. ``table`` is that of ``transfer_table`` over (trained_at_level, level)."""
    style()
    gains = table.gain.unstack("level").loc[list(levels), list(levels)]
    figure, axis = plt.subplots(figsize=(9.5, 6.8), layout="constrained")
    _heat(axis, gains, gains.abs().max().max(), title="Change in NLL (nats a token, below zero is better)")
    axis.set(xlabel="used at", ylabel="learned at")
    return figure


def tasks(table: pd.DataFrame) -> Figure:
    """Accuracy with and without a prompt, a panel a task; ``table`` is that of :func:`ctp_lib.claims.task_table`."""
    style()
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
            rows.none,
            2 * rows.none_stderr,
            fmt="o",
            color=COLOURS["none"],
            label="without (2 s.e.)",
            capsize=3,
        )
        against = [rows.none + rows.low, rows.none + rows.high]  # the paired interval, around what is had without
        axis.vlines([x + 0.1 for x in places], *against, color=COLOURS["soft_prompt"])
        axis.plot(
            [x + 0.1 for x in places],
            rows.soft_prompt,
            "o",
            color=COLOURS["soft_prompt"],
            label="with soft prompt (paired, 95 % for all cells together)",
        )
        axis.axhline(0.25, color=COLOURS["full"], linestyle=":", linewidth=1.3)
        axis.annotate("chance", (1, 0.25), xycoords=("axes fraction", "data"), ha="right", va="bottom")
        axis.set_xticks(places, rows.index)
        axis.set(title=name.removeprefix("documentation_"), xlabel="compression level", xlim=(-0.5, len(rows) - 0.5))
    axes[0][0].set_ylabel("accuracy")
    figure.legend(*axes[0][0].get_legend_handles_labels(), frameon=False, loc="outside lower center", ncols=2)
    seaborn.despine(figure)
    return figure


def comparison(table: pd.DataFrame) -> Figure:
    """Perplexity against trainable parameters, a line a method, a panel a level; seeds as bands.

    Every panel spans the same shares of what its level has with nothing learned, so that a height means the same in all. ``table`` is that of
    :func:`ctp_lib.claims.comparison_table` on one corpus.
    """
    style()
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
            axis.plot(own.trainable_parameters, own.ppl, "o-", color=COLOURS[method], label=POINTS[method])
            axis.fill_between(own.trainable_parameters, own.seeds_low, own.seeds_high, color=COLOURS[method], alpha=0.2)
            for row in own.itertuples():
                axis.annotate(
                    row.point.removesuffix(" vectors"),
                    (row.trainable_parameters, row.ppl),
                    xytext=(0, 7 if method == "soft_prompt" else -14),
                    textcoords="offset points",
                    ha="center",
                    fontsize=9,
                    color=COLOURS[method],
                )
        none = rows.ppl_none.iloc[0]
        axis.axhline(none, color=COLOURS["none"], linestyle="--", label="nothing learned")
        axis.set(xscale="log", xlabel="trainable parameters", title="uncompressed" if level == "full" else level)
        axis.margins(x=0.12)
        axis.set_ylim(none * (low - 0.1 * (high - low)), none * (high + 0.15 * (high - low)))
    axes[0][0].set_ylabel(f"perplexity on {table.evaluated_on.iloc[0]} (test)")
    axes[0][0].legend(frameon=False, loc="lower left")
    seaborn.despine(figure)
    return figure


def stored_size(table: pd.DataFrame) -> Figure:
    """Perplexity against what a file really holds, with and without a prompt, the uncompressed model as a line.

    ``table`` has level, megabytes, ppl_none, ppl_soft_prompt, with the prompt's own bytes in ``megabytes_with_prompt``.
    """
    style()
    full = table[table.level == "full"].iloc[0]
    figure, axis = plt.subplots(figsize=(9, 5), layout="constrained")
    for method, x, y in (("none", "megabytes", "ppl_none"), ("soft_prompt", "megabytes_with_prompt", "ppl_soft_prompt")):
        axis.scatter(table[x], table[y], s=60, color=COLOURS[method], label=NAMES[method], zorder=3)
    for row in table.itertuples():
        axis.plot(
            [row.megabytes, row.megabytes_with_prompt],
            [row.ppl_none, row.ppl_soft_prompt],
            color=COLOURS["soft_prompt"],
            alpha=0.35,
            linewidth=2,
        )
        place = {"quantised": ((-8, 6), "right", "center"), "joint": ((11, 2), "left", "center")}
        offset, across, along = place.get(Level.parse(row.level).family, ((0, 7), "center", "bottom"))
        axis.annotate(row.level, (row.megabytes, row.ppl_none), xytext=offset, textcoords="offset points", ha=across, va=along)
    axis.axhline(full.ppl_none, color=COLOURS["full"], linestyle="--", linewidth=1.2, label=NAMES["full"])
    axis.set(xlabel="megabytes on disk: codes, mask, scales, zero points, embeddings, prompt", ylabel="perplexity (test)")
    _logarithmic(axis)
    axis.margins(x=0.1)
    axis.legend(frameon=False)
    seaborn.despine(figure)
    return figure


def audit(ours: pd.DataFrame, theirs: pd.DataFrame, *, none: float, full: float) -> Figure:
    """What the released code prints against the exact perplexity: our prompts by length, and the paper's rows recomputed.

    ``ours`` has prompt_tokens, prompt (learned or untrained), ppl, ppl_released; ``theirs`` the paper's rows with ``exact``.
    """
    style()
    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 5.4), layout="constrained")
    for prompt, colour in (("untrained", COLOURS["none"]), ("learned", COLOURS["soft_prompt"])):
        rows = ours[ours.prompt == prompt].sort_values("prompt_tokens")
        left.plot(rows.prompt_tokens, rows.ppl, "o-", color=colour, label=f"{prompt}: exact")
        left.plot(
            rows.prompt_tokens, rows.ppl_released, "o--", color=colour, mfc="white", label=f"{prompt}: as released code prints it"
        )
    for value, text, colour in ((none, "no prompt", COLOURS["none"]), (full, "uncompressed", COLOURS["full"])):
        left.axhline(value, color=colour, linewidth=1, linestyle=":")
        left.annotate(text, (0.01, value), xycoords=("axes fraction", "data"), va="bottom", color=colour)
    left.set(xlabel="vectors in the prompt", ylabel="perplexity", title="The same prompts, by two formulas")
    _logarithmic(left)
    left.legend(frameon=False, fontsize=10, loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2)
    places = range(len(theirs))
    for shift, column, colour, label in (
        (-0.26, "soft_prompt", COLOURS["soft_prompt"], "prompt, printed"),
        (0, "exact", "#f4a984", "prompt, averaging undone"),
        (0.26, "lora", COLOURS["lora"], "LoRA"),
    ):
        bars = right.bar([x + shift for x in places], theirs[column], 0.25, color=colour, label=label)
        right.bar_label(bars, fmt="{:.2f}", fontsize=9)
    right.set_xticks(places, [f"{row.model}\n{row.data}" for row in theirs.itertuples()])
    right.set(ylabel="perplexity (published)", title="The paper's rows against LoRA, recomputed for n = 100, L = 1,024")
    right.legend(frameon=False, fontsize=10, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3)
    seaborn.despine(figure)
    return figure


def costs(table: pd.DataFrame) -> Figure:
    """One training step on the same batch: seconds, and bytes of activations kept. ``table`` has method, seconds, activation_bytes."""
    style()
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.4), sharey=True, layout="constrained")
    colours = [
        COLOURS["soft_prompt"] if "prompt" in name else COLOURS["lora"] if "LoRA" in name else COLOURS["full"]
        for name in table.method
    ]
    for axis, values, label, form in (
        (axes[0], table.seconds, "seconds a step", "{:.2f}"),
        (axes[1], table.activation_bytes / 1e6, "megabytes kept for the backward pass", "{:.0f}"),
    ):
        axis.bar_label(axis.barh(table.method, values, color=colours), fmt=form, padding=3)
        axis.set(xlabel=label)
        axis.margins(x=0.15)
        axis.grid(visible=False)
    axes[0].invert_yaxis()
    seaborn.despine(figure)
    return figure


def similarity(table: pd.DataFrame) -> Figure:
    """How alike the learned prompts are; ``table`` holds mean cosines of their vectors, named on both sides."""
    style()
    figure, axis = plt.subplots(figsize=(9.5, 8), layout="constrained")
    seaborn.heatmap(
        table,
        ax=axis,
        cmap="Oranges",
        vmin=0,
        vmax=1,
        square=True,
        annot=len(table) <= 12,
        fmt=".2f",
        cbar_kws={"label": "mean cosine of the vectors"},
    )
    axis.set(title="How alike prompts are, by level and seed", xlabel="", ylabel="")
    return figure


def shares_side_by_side(panels: Mapping[str, pd.DataFrame], theirs: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Figure:
    """The share of the lost perplexity that a prompt gives back, by level: a panel a kind of text, a bar a run.

    Each table has the levels as its index and a column a run. ``theirs`` holds the paper's by panel: *printed* and *undone*, by level.
    """
    style()
    figure, axes = plt.subplots(len(panels), 1, figsize=(12.5, 3.7 * len(panels)), squeeze=False, layout="constrained")
    for axis, (title, table) in zip(axes.flat, panels.items(), strict=True):
        ours = dict(zip(table.columns, seaborn.light_palette(COLOURS["soft_prompt"], len(table.columns) + 1)[1:], strict=True))
        bars = {run: (table[run].to_dict(), {"color": colour}) for run, colour in ours.items()}
        bars["LLaMA-7B, as printed"] = (theirs[title]["printed"], {"color": PUBLISHED})
        bars["the same, if averaged over 100 prompt positions"] = (
            theirs[title]["undone"],
            {"color": "white", "edgecolor": PUBLISHED, "linewidth": 1.5},
        )
        for number, (label, (shares, look)) in enumerate(bars.items()):
            places = [place + 0.2 * (number - (len(bars) - 1) / 2) for place, level in enumerate(table.index) if level in shares]
            values = [shares[level] for level in table.index if level in shares]
            drawn = axis.bar(places, values, width=0.19, label=label, **look)
            axis.bar_label(drawn, fmt=lambda value: "" if math.isnan(value) else f"{value:.0%}", fontsize=10, padding=2)
        axis.axhline(0, color=COLOURS["full"], linewidth=1)
        axis.axhline(1, color=COLOURS["full"], linestyle="--", linewidth=1.3)
        axis.set_xticks(range(len(table)), table.index)
        axis.set(title=title, ylabel="share of the lost\nperplexity given back")
        axis.margins(y=0.12)
        axis.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.flat[-1].set_xlabel("compression level")
    handles, labels = axes.flat[-1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    seaborn.despine(figure)
    return figure


def _published_dumbbells(axis: Axes) -> None:
    """The paper's LLaMA-7B on PTB, without a prompt and with the one learned on C4."""
    theirs = {level: found["ptb"] for level, found in published.LLAMA_7B_QUANTISED.items()}
    levels = [level for level in theirs if level != "full"]
    for place, level in enumerate(levels):
        pair = [theirs[level]["none"], theirs[level]["transferred"]]
        axis.plot([place, place], pair, color=PUBLISHED, linewidth=2.5, alpha=0.6)
        axis.plot(place, pair[0], "o", color=PUBLISHED, markersize=8)
        axis.plot(place, pair[1], "o", color=PUBLISHED, markersize=8, markerfacecolor="white")
        for value in pair:
            axis.annotate(f"{value:.4g}", (place + 0.14, value), va="center", color=PUBLISHED_TEXT, fontsize=10, bbox=READABLE)
    axis.axhline(theirs["full"]["none"], color=PUBLISHED, linestyle="--", linewidth=1.3)
    axis.set(yscale="log", xlim=(-0.5, len(levels) - 0.2), xlabel="compression level")
    axis.set_title("LLaMA-7B on PTB (published)\nopen: with prompt", color=PUBLISHED_TEXT)
    axis.set_xticks(range(len(levels)), levels)
    axis.yaxis.set_major_formatter("{x:.0f}")


def _published_tasks(axis: Axes, task: str) -> None:
    """The paper's accuracy of LLaMA-7B on one task, without (filled) and with (open) the prompt learned on C4."""
    levels = ["full", "4bit", "3bit", "2bit", "50%", "62.5%", "75%"]
    for place, level in enumerate(levels):
        none, prompted = published.ZERO_SHOT[level][task]
        axis.plot(place - 0.1, none, "o", color=PUBLISHED)
        if prompted is not None:
            axis.plot(place + 0.1, prompted, "o", color=PUBLISHED, markerfacecolor="white")
    axis.set_xticks(range(len(levels)), levels, rotation=60)
    axis.set_title(f"{task}, LLaMA-7B\n(published; open: with prompt)", color=PUBLISHED_TEXT)
    axis.set_xlabel("compression level")


def _published_comparison(axis: Axes) -> None:
    """The paper's prompts and LoRA at 3 bits on C4: as printed (filled), and with the averaging undone (open)."""
    for row in published.LORA_3BIT:
        if row["data"] == "C4":
            prompt, lora = (row["soft_prompt_millions"], row["soft_prompt"]), (row["lora_millions"], row["lora"])
            axis.plot(*zip(prompt, lora, strict=True), "o-", color=PUBLISHED)
            axis.plot(prompt[0], published.exact(prompt[1]), "o", color=PUBLISHED, markerfacecolor="white")
            axis.annotate(
                row["model"], lora, xytext=(0, 7), textcoords="offset points", ha="center", fontsize=10, color=PUBLISHED_TEXT
            )
    axis.margins(x=0.3, y=0.15)
    axis.set(xscale="log", xlabel="million trainable parameters")
    axis.set_title("3bit, C4 (published)\nopen: prompt, averaging undone", color=PUBLISHED_TEXT)


def _heat(
    axis: Axes,
    gains: pd.DataFrame,
    bound: float,
    *,
    title: str,
    colours: str | Colormap = "PuOr_r",
    shares: pd.DataFrame | None = None,
) -> None:
    """``gains`` in numbers and colours, from -``bound`` (better) to ``bound``; under each number its share, where there are ``shares``."""
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


def _logarithmic(axis: Axes) -> None:
    """A logarithmic axis of perplexity on which a range of less than a decade has ticks to read by, also where axes share it."""
    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0)))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_locator(NullLocator())


def _curve(axis: Axes, curve: pd.DataFrame, title: str) -> None:
    for _, one in curve.groupby("seed"):
        tokens = one.tokens / 1000
        best = one.validation_nll.to_numpy().argmin()
        axis.plot(tokens, one.validation_nll, color=COLOURS["soft_prompt"], alpha=0.7)
        axis.plot(tokens.iloc[best], one.validation_nll.iloc[best], "o", color=COLOURS["soft_prompt"], markersize=5)
    axis.set(title=title, xlabel="thousand tokens seen", ylabel="validation NLL (nats)")


def _levels(table: pd.DataFrame, families: tuple[str, ...]) -> list[str]:
    """The levels of these families in ``table``, in the study's order."""
    return [level for level in table.level.drop_duplicates() if Level.parse(level).family in families]


def _dumbbells(axis: Axes, rows: pd.DataFrame, levels: list[str], full: float) -> None:
    for place, level in enumerate(levels):
        at = rows[rows.level == level].groupby("method").ppl.mean()
        axis.plot(
            [place, place], [at["none"], at["soft_prompt"]], color=COLOURS["soft_prompt"], linewidth=2.5, alpha=0.35, zorder=2
        )
    for method, side, align in (("none", -0.09, "right"), ("soft_prompt", 0.09, "left")):
        seeds = [rows[(rows.level == level) & (rows.method == method)].ppl for level in levels]
        values = [ppl.mean() for ppl in seeds]
        axis.vlines(range(len(levels)), [ppl.min() for ppl in seeds], [ppl.max() for ppl in seeds], color=COLOURS[method], zorder=3)
        axis.scatter(range(len(levels)), values, s=70, color=COLOURS[method], label=NAMES[method], zorder=3)
        for place, value in enumerate(values):
            axis.annotate(
                f"{value:.1f}", (place + side, value), ha=align, va="center", color=COLOURS[method], fontsize=11, bbox=READABLE
            )
    axis.axhline(full, color=COLOURS["full"], linestyle="--", linewidth=1.3, label=NAMES["full"], zorder=1)
    axis.annotate(f"{full:.1f}", (1, full), xycoords=("axes fraction", "data"), ha="right", va="bottom", color=COLOURS["full"])
    _logarithmic(axis)
    axis.set_xticks(range(len(levels)), levels)
    axis.set_xlim(-0.6, len(levels) - 0.4)
    axis.set_xlabel("compression level")
