"""One page of all that was measured: ``results/benchmarks/README.md``, and its figures."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import seaborn
from matplotlib.figure import Figure

from benchmarks import recipe_page
from benchmarks.measure import RESULTS
from ctp_lib.claims import style
from ctp_lib.recovery.lora import METHOD as LORA
from ctp_lib.recovery.soft_prompt import METHOD as PROMPT
from ctp_lib.settings import study

FIGURES = Path("figures/benchmarks")
ORDER = ("prompt_step", "distilled_step", "zero_shot", "perplexity", "compression", "compression_model")
"""Of the benchmarks on the page."""


def records(folder: Path = RESULTS) -> dict[str, dict[str, Any]]:
    """Every benchmark's record by its name."""
    paths = sorted(folder.glob("*.json"), key=lambda path: ORDER.index(path.stem) if path.stem in ORDER else len(ORDER))
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in paths}


def rows(found: Mapping[str, Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """A row a peer: how many times faster ours was, its spread and goal, and what it took of the peer's memory."""
    for record in found.values():
        for shape, measured in record["shapes"].items():
            sides = list(measured.get("sides", {}).items())
            for peer, row in sides[1:]:
                yield {
                    "benchmark": record["cell"]["title"],
                    "shape": shape,
                    "peer": peer,
                    "faster": row["ratio"]["median"],
                    "low": row["ratio"]["low"],
                    "high": row["ratio"]["high"],
                    "goal": row["goal"],
                    "memory": row["memory_ratio"],
                    "memory_goal": row["memory_goal"],
                    "tokens_per_second": sides[0][1]["tokens_per_second"],
                    "of_ceiling": sides[0][1]["share_of_ceiling"],
                    "ceiling_goal": measured.get("ceiling_goal"),
                    "ceiling": measured["ceiling"],
                    "device": measured["provenance"]["device"]
                    if measured["provenance"]["device"] != "cpu"
                    else f"{measured['provenance']['processor']}, {measured['provenance']['threads']} threads",
                }


def ratios(table: pd.DataFrame) -> Figure:
    """How many times faster ours is than each peer; the bar's ends are the quartiles of the rounds, a tick marks the goal."""
    figure, axis = plt.subplots(figsize=(11, 0.9 + 0.42 * len(table)), layout="constrained")
    places = range(len(table))
    axis.barh(places, table.faster, color=PROMPT.colour, alpha=0.85, height=0.62)
    axis.hlines(places, table.low, table.high, color=style.UNCOMPRESSED, linewidth=2)
    for place, row in zip(places, table.itertuples(), strict=True):
        inside = (0.03, place)  # where no goal's mark can cross it
        axis.annotate(f"{row.faster:.2f}", inside, va="center", color="white", fontweight="bold")
        if pd.notna(row.goal):
            axis.plot([row.goal] * 2, [place - 0.38, place + 0.38], color=LORA.colour, linewidth=3)
    axis.axvline(1, color=style.UNCOMPRESSED, linewidth=1)
    axis.set_yticks(list(places), [f"{row.benchmark}, {row.shape}\nbeside {row.peer}" for row in table.itertuples()], fontsize=9)
    axis.set(xlabel="times as fast as the peer (blue: the goal)", xlim=(0, None))
    axis.invert_yaxis()
    axis.grid(visible=False, axis="y")
    seaborn.despine(figure)
    return figure


def summary(table: pd.DataFrame) -> str:
    """A line a benchmark: from what to what its ratios go, over shapes and peers."""
    lines = []
    for name, rows in table.groupby("benchmark", sort=False):
        low, high, least, most = rows.faster.min(), rows.faster.max(), rows.memory.min(), rows.memory.max()
        lines.append(f"- {name}: {low:.2f} to {high:.2f} times as fast, with {least:.2f} to {most:.2f} times the memory")
    return "\n".join(lines)


def as_markdown(table: pd.DataFrame) -> str:
    """The same as a table: each ratio with its quartiles, against its goal."""
    lines = [
        "| work | shape | other tool | speed, ours / other (quartiles) | goal | memory, ours / other | goal | tokens a second | ceiling, GFLOP/s "
        "| share of the ceiling | goal |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in table.itertuples():
        faster = _against(row.goal, row.faster >= row.goal, row.low >= row.goal)
        memory = _against(row.memory_goal, row.memory <= row.memory_goal)
        ceiling = _against(row.ceiling_goal, row.of_ceiling >= row.ceiling_goal)
        lines.append(
            f"| {row.benchmark} | {row.shape} | {row.peer} | {row.faster:.2f} ({row.low:.2f} to {row.high:.2f}) | {faster} | "
            f"{row.memory:.2f} | {memory} | {row.tokens_per_second:,.0f} | {row.ceiling / 1e9:,.0f} | {row.of_ceiling:.2f} | {ceiling} |"
        )
    return "\n".join(lines)


def _against(goal: float | None, reached: bool, clearly: bool = True) -> str:
    """A goal, and whether it was missed, or reached in the median and not in the lower quartile; nothing where none was set."""
    if pd.isna(goal):
        return ""
    return f"{goal:.2g}" + (", **missed**" if not reached else "" if clearly else ", in the median")


def main() -> None:
    """``python -m benchmarks.page``."""
    found = records()
    table = pd.DataFrame(rows(found))
    style.save(ratios(table), FIGURES, "ratios")
    parts = [
        "# Speed and memory, beside what people would use otherwise",
        summary(table),
        "Each row of the table compares our code with another tool. Both run in turn in one process. Memory is the peak beyond the weights, "
        "measured in a separate process. The ceiling is the fastest matrix product of the same dtype on this machine, measured before each "
        "round. `make bench` measures again and writes this page.",
        f"Measured on: {'; '.join(sorted(set(table.device)))}.",
        "![how many times faster](../../figures/benchmarks/ratios.png)",
        as_markdown(table),
        "The share of the ceiling counts only operations that cannot be avoided (for tasks, those of the matrices). gptqmodel is optional: it is "
        "compared if it is installed. For a whole model, its time includes reading the model and packing the result. What was tried where a "
        "goal was missed: [NOTES](../../benchmarks/NOTES.md).",
    ]
    if "time_to_quality" in found:
        shapes = found["time_to_quality"]["shapes"]
        style.save(recipe_page.draw_times(shapes), FIGURES, "time_to_quality")
        parts += ["## Time to quality", "![validation loss against seconds](../../figures/benchmarks/time_to_quality.png)"]
        parts += recipe_page.timed(shapes)
    if "recipe" in found:
        parts += ["## Quality for the money", *_recipes(found["recipe"]["shapes"])]
    if "search" in found:
        parts += ["## Loss, rate and length of a prompt", *recipe_page.searched(found["search"]["shapes"])]
    (RESULTS / "README.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    print(RESULTS / "README.md")


def _recipes(lengths: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """What the two recipes are worth, a figure and a table a length of the paper's."""
    settings = study.load()
    published = settings.prompts_by("paper").training.steps
    yield (
        "A prompt on the study's own model by the paper's recipe, and by `distilled` with a tenth of its tokens. The paper takes "
        f"{published:,} steps for a model of seven billion weights. We run its recipe for fewer, each time with its own warm-up and decay. The "
        "tables give the mean NLL on test, in nats per token, at the step that was best on validation. Each token costs a third to a half more "
        "with `distilled`, because the uncompressed model reads it too. Measured on 23 November 2026; the text was cleaned of near copies since, "
        "so the perplexities differ from those of the study."
    )
    for steps, record in sorted(lengths.items(), key=lambda item: int(item[0])):
        style.save(recipe_page.draw(record), FIGURES, f"recipes_{steps}")
        yield f"### The paper's recipe over {int(steps):,} steps"
        yield f"![share of the gap recovered against tokens](../../figures/benchmarks/recipes_{steps}.png)"
        yield recipe_page.as_markdown(record)


if __name__ == "__main__":
    main()
