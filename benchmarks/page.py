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
from ctp_lib import figures

FIGURES = Path("figures/benchmarks")


def records(folder: Path = RESULTS) -> dict[str, dict[str, Any]]:
    """Every benchmark's record by its name."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}


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
                    "device": measured["provenance"]["device"]
                    if measured["provenance"]["device"] != "cpu"
                    else f"{measured['provenance']['processor']}, {measured['provenance']['threads']} threads",
                }


def ratios(table: pd.DataFrame) -> Figure:
    """How many times faster ours is than each peer; the bar's ends are the quartiles of the rounds, a tick marks the goal."""
    figures.style()
    figure, axis = plt.subplots(figsize=(11, 0.9 + 0.42 * len(table)), layout="constrained")
    places = range(len(table))
    axis.barh(places, table.faster, color=figures.COLOURS["soft_prompt"], alpha=0.85, height=0.62)
    axis.hlines(places, table.low, table.high, color=figures.COLOURS["full"], linewidth=2)
    for place, row in zip(places, table.itertuples(), strict=True):
        inside = (0.03, place)  # where no goal's mark can cross it
        axis.annotate(f"{row.faster:.2f}", inside, va="center", color="white", fontweight="bold")
        if pd.notna(row.goal):
            axis.plot([row.goal] * 2, [place - 0.38, place + 0.38], color=figures.COLOURS["lora"], linewidth=3)
    axis.axvline(1, color=figures.COLOURS["full"], linewidth=1)
    axis.set_yticks(list(places), [f"{row.benchmark}, {row.shape}\nbeside {row.peer}" for row in table.itertuples()], fontsize=9)
    axis.set(xlabel="times as fast as the peer (blue: the goal)", xlim=(0, None))
    axis.invert_yaxis()
    axis.grid(visible=False, axis="y")
    seaborn.despine(figure)
    return figure


def as_markdown(table: pd.DataFrame) -> str:
    """The same as a table: each ratio with its quartiles, against its goal."""
    lines = [
        "| work | shape | beside | times as fast (quartiles) | goal | of its memory | goal | tokens a second | of the ceiling |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in table.itertuples():
        goal = f"{row.goal:g}{'' if row.faster >= row.goal else ', **missed**'}" if pd.notna(row.goal) else ""
        memory = (
            f"{row.memory_goal:g}{'' if row.memory <= row.memory_goal else ', **missed**'}" if pd.notna(row.memory_goal) else ""
        )
        lines.append(
            f"| {row.benchmark} | {row.shape} | {row.peer} | {row.faster:.2f} ({row.low:.2f} to {row.high:.2f}) | {goal} | "
            f"{row.memory:.2f} | {memory} | {row.tokens_per_second:,.0f} | {row.of_ceiling:.0%} |"
        )
    return "\n".join(lines)


def main() -> None:
    """``python -m benchmarks.page``."""
    found = records()
    table = pd.DataFrame(rows(found))
    figures.save(ratios(table), FIGURES, "ratios")
    parts = [
        "# What the speed is worth",
        "Every row is one run: both sides in turn in one process, the peak of memory beside the weights in a process of its own each, the "
        "ceiling (the best matrix product of the same dtype) before and after. `make bench` measures again and writes this page.",
        f"Measured on: {'; '.join(sorted(set(table.device)))}.",
        "![how many times faster](../../figures/benchmarks/ratios.png)",
        as_markdown(table),
    ]
    if "recipe" in found:
        record = found["recipe"]["shapes"]["study"]
        figures.save(recipe_page.draw(record), FIGURES, "recipes")
        parts += [
            "## Quality for the money",
            "A prompt on the study's own model by the paper's recipe, and by `distilled`, the study's default, with a tenth of its tokens. "
            "Mean NLL on test, in nats a token, at the step that was best on validation.",
            "![share of the gap recovered against tokens](../../figures/benchmarks/recipes.png)",
            recipe_page.as_markdown(record),
        ]
    if "overhead" in found:
        parts += ["## Where the seconds of `make repro` go", _overhead(found["overhead"]["shapes"]["study"])]
    (RESULTS / "README.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    print(RESULTS / "README.md")


def _overhead(record: Mapping[str, Any]) -> str:
    whole = record["whole"]
    lines = [f"| {name} | {seconds:.0f} | {seconds / whole:.1%} |" for name, seconds in record["parts"].items()]
    missed = "" if record["share_not_work"] <= record["goal"] else ", **missed**"
    return "\n".join(
        [
            f"{record['share_not_work']:.1%} of {whole:.0f} s is not work (goal: at most {record['goal']:.0%}{missed}).\n",
            "| what | seconds | share |",
            "|---|---|---|",
            *lines,
        ]
    )


if __name__ == "__main__":
    main()
