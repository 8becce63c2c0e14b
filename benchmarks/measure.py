"""How anything is measured here: in alternation in one process, against the machine's own ceiling, memory in a process of its own."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from benchmarks.shapes import SHAPES, Shape
from ctp_lib.machine.ceiling import ceiling
from ctp_lib.results import cells, provenance
from ctp_lib.results.provenance import timed

ROOT = Path(__file__).parent.parent
RESULTS = Path("results/benchmarks")
PEERS = ("lm-eval", "auto-gptq", "gptqmodel", "accelerate")
ALONE = {"MALLOC_MMAP_THRESHOLD_": "65536"}
"""Every tensor in a mapping of its own, so that what is freed goes back at once: else the peak tells how malloc was used before."""


@dataclass(frozen=True)
class Benchmark:
    """``sides`` are ways to do the same work, the first of them ours; each, given its model and shape, gives what one round of it runs.

    ``flops`` and ``tokens`` are those of one round; ``goals`` say by peer how many times faster ours is to be, ``memory_goals`` which share
    of that peer's memory beside the weights it may take, ``ceiling_goals`` by shape which share of the machine's best rate it is to reach.
    """

    name: str
    title: str
    sides: Mapping[str, Callable[[PreTrainedModel, Shape], Callable[[], Any]]]
    flops: Callable[[PreTrainedModel, Shape], float]
    tokens: Callable[[Shape], int]
    goals: Mapping[str, float] = field(default_factory=dict)
    memory_goals: Mapping[str, float] = field(default_factory=dict)
    ceiling_goals: Mapping[str, float] = field(default_factory=dict)
    shapes: tuple[str, ...] = ("embedded", "smollm2")
    catalogue: Mapping[str, Any] = field(default_factory=lambda: SHAPES)

    @property
    def ours(self) -> str:
        """The first side."""
        return next(iter(self.sides))


def ratio(ours: list[float], theirs: list[float]) -> dict[str, float]:
    """Theirs by ours, round for round: median, and the quartiles as its spread."""
    pairs = [other / own for own, other in zip(ours, theirs, strict=True)]
    low, middle, high = statistics.quantiles(pairs, n=4) if len(pairs) > 1 else [pairs[0]] * 3
    return {"median": middle, "low": low, "high": high}


def alternate(
    sides: Mapping[str, Callable[[], Any]], rounds: int, before: Callable[[], Any] = lambda: None
) -> dict[str, list[float]]:
    """Seconds of every side, taken in turn ``rounds`` times after one round to warm up; each round begins with another side, and
    ``before`` is called ahead of it.
    """
    taken: dict[str, list[float]] = {name: [] for name in sides}
    order = list(sides.items())
    for _ in range(rounds + 1):
        order.append(order.pop(0))
        before()
        for name, work in order:
            taken[name].append(timed(work)[0])
    return {name: seconds[1:] for name, seconds in taken.items()}


def peak_bytes(benchmark: Benchmark, shape: str, side: str) -> int:
    """Bytes at the peak of two rounds of ``side``, beside what was held before them, in a process of its own."""
    around = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")} | ALONE
    command = [sys.executable, "-m", f"benchmarks.{benchmark.name}", "--shape", shape, "--memory-of", side]
    done = subprocess.run(command, env=around, stdout=subprocess.PIPE, text=True, check=True)  # what went wrong is told at once
    return int(done.stdout.split()[-1])


def _own_peak(benchmark: Benchmark, shape: Shape, side: str) -> int:
    small = benchmark.catalogue["toy"]
    if shape.device == "cpu" and shape is not small:
        # What is read in when code first runs, and the buffers of threads, are no side's own.
        benchmark.sides[side](small.model(), small)()
    work = benchmark.sides[side](shape.model(), shape)
    if shape.device == "cuda":
        held = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        _twice(work)
        return torch.cuda.max_memory_allocated() - held
    return peak_beside(lambda: _twice(work))


def _twice(work: Callable[[], Any]) -> None:
    """Two rounds, of which nothing is kept."""
    for _ in range(2):
        work()


def peak_beside(work: Callable[[], Any]) -> int:
    """Bytes that this process holds at the peak of ``work``, beside what it held before; see :data:`ALONE`."""
    held = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the mark of the most that was held starts anew
    work()
    return _resident("VmHWM") - held


def _resident(what: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(what):
            return 1024 * int(line.split()[1])
    raise RuntimeError(f"this system does not tell {what}; memory is measured on Linux alone")


def run(benchmark: Benchmark, name: str, rounds: int) -> dict[str, Any]:
    """Everything about one shape, as a JSON-able record."""
    shape = benchmark.catalogue[name]
    model = shape.model()  # one for all sides: four of seven billion weights would fill a GPU
    flops, tokens = benchmark.flops(model, shape), benchmark.tokens(shape)
    sides = {side: make(model, shape) for side, make in benchmark.sides.items()}
    reached: list[float] = []
    seconds = alternate(sides, rounds, before=lambda: reached.append(ceiling(shape.dtype, shape.device)))
    highest = max(reached)
    del model, sides
    if shape.device == "cuda":  # the processes that memory is measured in need the room
        torch.cuda.empty_cache()
    memory = {side: peak_bytes(benchmark, name, side) for side in benchmark.sides}
    measured = {
        side: {
            "seconds": statistics.median(taken),
            "seconds_by_round": taken,
            "tokens_per_second": tokens / statistics.median(taken),
            "peak_bytes": memory[side],
            "share_of_ceiling": flops / statistics.median(taken) / highest,
            "ratio": ratio(seconds[benchmark.ours], taken),
            "memory_ratio": memory[benchmark.ours] / memory[side] if memory[side] else math.nan,
            "goal": benchmark.goals.get(side),
            "memory_goal": benchmark.memory_goals.get(side),
        }
        for side, taken in seconds.items()
    }
    return {
        "rounds": rounds,
        "tokens": tokens,
        "flops": flops,
        "ceiling": highest,
        "ceiling_goal": benchmark.ceiling_goals.get(name),
        "dtype": str(shape.dtype),
        "sides": measured,
    }


def main(benchmark: Benchmark) -> None:
    """``python -m benchmarks.NAME [--shape SHAPE] [--rounds 7]``: measure, print, and keep under ``results/benchmarks``."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{benchmark.name}", description=benchmark.title)
    parser.add_argument(
        "--shape", choices=list(benchmark.catalogue), action="append", help=f"{' and '.join(benchmark.shapes)} unless given"
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--memory-of", choices=list(benchmark.sides), help="only print the bytes that this side takes at its peak")
    parser.add_argument("--into", type=Path, default=RESULTS, help="the folder of the record")
    asked = parser.parse_args()
    shapes = asked.shape or list(benchmark.shapes)
    if asked.memory_of:
        print(_own_peak(benchmark, benchmark.catalogue[shapes[0]], asked.memory_of))
        return
    for shape in shapes:
        found = run(benchmark, shape, asked.rounds)
        print(f"{benchmark.title}, {shape}\n{as_text(found)}\n", flush=True)
        keep(benchmark.name, benchmark.title, {shape: found}, asked.into)


def keep(name: str, title: str, found: Mapping[str, Any], folder: Path = RESULTS) -> None:
    """Add what was found to the record of this benchmark; what it says of other shapes stays."""
    path = folder / f"{name}.json"
    shapes = json.loads(path.read_text(encoding="utf-8"))["shapes"] if path.exists() else {}
    shapes |= {shape: {**record, "provenance": _provenance()} for shape, record in found.items()}
    cells.write(path, {"benchmark": name, "title": title}, shapes=shapes, provenance=provenance.provenance(ROOT))


def _provenance() -> dict[str, Any]:
    """Where it was measured; beside what every result of the study tells, the state of the benchmarks and the versions of the peers."""
    told = provenance.provenance(ROOT)
    changed = provenance.git(ROOT, "status", "--porcelain", "--", "benchmarks")
    peers = {name: importlib.metadata.version(name) for name in PEERS if importlib.util.find_spec(name.replace("-", "_"))}
    return told | {"dirty": told["dirty"] is True or bool(changed), "packages": told["packages"] | peers}


def as_text(record: Mapping[str, Any]) -> str:
    """A line a side, for a reader at a terminal."""
    lines = [
        f"  {'':34} {'seconds':>8} {'tokens/s':>9} {'of ceiling':>10} {'peak':>9}   ours is faster by, and takes of the memory"
    ]
    for side, row in record["sides"].items():
        spread = (
            f"{row['ratio']['median']:.2f} ({row['ratio']['low']:.2f} to {row['ratio']['high']:.2f}), {row['memory_ratio']:.2f}"
        )
        lines.append(
            f"  {side:34} {row['seconds']:8.3f} {row['tokens_per_second']:9,.0f} {row['share_of_ceiling']:10.0%} "
            f"{row['peak_bytes'] / 1e6:6.0f} MB   {spread}"
        )
    return "\n".join(lines)
