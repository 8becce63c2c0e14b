"""Where the seconds of the study go: work, imports, kernels, DVC. Reads what the last `make repro` noted; run that first.

Work is every cell of a notebook but the one that imports. The time between two notebooks is DVC's: it hashes what a stage made, and
looks what the next one needs. The stage that reads the documentation is no notebook; it runs before the first and is not counted.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import measure
from ctp_lib.run.cell import SECONDS

PAUSE = 30.0
"""Seconds; a longer time between two notebooks ends a run."""
GOAL = 0.2
"""Share of the whole that is not work, at most."""


def last_run(lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The lines of the last run, in order."""
    lines = sorted(lines, key=lambda line: line["started"])
    first = max((n for n in range(1, len(lines)) if lines[n]["started"] - lines[n - 1]["ended"] > PAUSE), default=0)
    return list(lines[first:])


def split(run: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Seconds of a run by what they were spent on; they add up to its whole."""
    parts = {
        "work": sum(line["work"] for line in run),
        "imports": sum(line["imports"] for line in run),
        "starting processes and kernels": sum(line["first_cell"] - line["started"] for line in run),
        "ending them": sum(line["ended"] - line["first_cell"] - line["imports"] - line["work"] for line in run),
    }
    whole = run[-1]["ended"] - run[0]["started"]
    return parts | {"DVC": whole - sum(parts.values())}


def by_notebook(run: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Cells, seconds and seconds of work of every notebook."""
    found: dict[str, dict[str, float]] = {}
    for line in run:
        row = found.setdefault(line["cell"].split("/")[0], {"cells": 0, "seconds": 0.0, "work": 0.0})
        row["cells"] += 1
        row["seconds"] += line["ended"] - line["started"]
        row["work"] += line["work"]
    return found


def main() -> None:
    """``python -m benchmarks.overhead [--run NAME]``: print and keep; a run of another name stays beside it on the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overhead", description="Where the seconds of the study go.")
    parser.add_argument("--run", default="study", help="the name to keep it by, such as `before`")
    parser.add_argument("--into", type=Path, default=measure.RESULTS, help="the folder of the record")
    asked = parser.parse_args()
    if not SECONDS.exists():
        sys.exit(f"{SECONDS} is not there; run `make repro` first")
    run = last_run([json.loads(line) for line in SECONDS.read_text(encoding="utf-8").splitlines()])
    parts = split(run)
    whole = sum(parts.values())
    for name, seconds in parts.items():
        print(f"  {name:32} {seconds:7.0f} s {seconds / whole:6.1%}")
    print(f"  {'the whole, of ' + str(len(run)) + ' notebooks':32} {whole:7.0f} s")
    record = {
        "parts": parts,
        "whole": whole,
        "share_not_work": 1 - parts["work"] / whole,
        "goal": GOAL,
        "notebooks": by_notebook(run),
    }
    measure.keep("overhead", "Where the seconds of the study go", {asked.run: record}, asked.into)


if __name__ == "__main__":
    main()
