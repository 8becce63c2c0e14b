"""Every repair side by side on one compressed model: a method's learning rate is swept on validation at one size; all its sizes use the best.

``python -m ctp_lib.recovery.comparison MODEL LEVEL METHOD`` is a cell of the graph.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ctp_lib.compression import saved
from ctp_lib.evaluation.latency import latency
from ctp_lib.evaluation.perplexity import perplexity_of
from ctp_lib.recovery import asking, scores
from ctp_lib.recovery.base import Learned, registry, sized
from ctp_lib.recovery.bench import Bench
from ctp_lib.recovery.none import METHOD as NONE
from ctp_lib.results import cells
from ctp_lib.results.provenance import Cost
from ctp_lib.settings import digests, models, paths
from ctp_lib.settings.experiments import RepairSpec
from ctp_lib.settings.levels import Level
from ctp_lib.settings.spec import ParameterError, one_sentence
from ctp_lib.settings.study import PROMPT, Study
from ctp_lib.text import selection


def obtain(settings: Study, model: str, level: Level, method: str) -> dict[str, Any]:
    """The cell of ``method`` at ``level``: ``swept``, ``perplexity`` (one row per size, seed, corpus), ``tasks``. It is made if missing."""
    contest = Contest(Bench(settings, model, level), method)
    path = paths.comparison(settings, model, level, method)
    wanted = contest.identity
    if (found := cells.known(path, wanted)) is not None:
        return found
    found = contest.held()
    # the graph wants the folder, also where all was learned before, by the study itself
    paths.compared(settings, model, level, method).mkdir(parents=True, exist_ok=True)
    return cells.write(path, {"model": model, "level": str(level), "method": method}, identity=wanted, **found)


def of_study(settings: Study, model: str, methods: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """The cells of ``methods``, or of all, at every level where the study compares them."""
    named = settings.comparison.repairs if methods is None else methods
    return [obtain(settings, model, level, method) for level, method in settings.compared if method in named]


def carried(settings: Study, model: str) -> list[dict[str, Any]]:
    """What the best size of every repair does at the other compressed levels, without learning anew: one row per method, seed, pair of levels.

    It is kept by method, so that a new one takes its own time alone.
    """
    path = paths.question(settings, "carried", model)
    levels = [level for level in map(Level.parse, settings.comparison.levels) if level.family != "full"]
    benches = {level: Bench(settings, model, level) for level in levels}
    made = {name: [obtain(settings, model, level, name) for level in levels] for name in settings.comparison.repairs}
    wanted = {name: digests.short([[cell["identity"] for cell in found], list(map(str, levels))]) for name, found in made.items()}
    known = cells.read(path) if path.exists() else {"identity": {}, "perplexity": []}
    rows = [row for row in known["perplexity"] if wanted.get(row["method"]) == known["identity"].get(row["method"])]
    for name in sorted(wanted.keys() - {row["method"] for row in rows}):
        for found in made[name]:
            rows += _carry(found, benches, settings.soft_prompt.corpus)
    return cells.write(path, {"model": model}, identity=wanted, perplexity=rows)["perplexity"]


def _carry(found: Mapping[str, Any], benches: Mapping[Level, Bench], broad: str) -> list[dict[str, Any]]:
    """The best size of one cell, with every seed, on the networks of the other levels."""
    home, rows = Level.parse(found["cell"]["level"]), []
    contest, best = Contest(benches[home], found["cell"]["method"]), best_size(found["perplexity"])
    for row in (row for row in found["perplexity"] if row["point"] == best and row["evaluated_on"] == broad):
        for bench in (bench for level, bench in benches.items() if level != home):
            learned = contest.learned(best, row["learning_rate"], row["seed"], bench)
            about = {name: row[name] for name in ("point", "learning_rate", "seed", "trained_on", "trained_at_level")}
            rows += bench.score(learned, of=[broad], divergence=False, **about)
    return rows


def best_size(rows: Sequence[Mapping[str, Any]]) -> str:
    """The size that is best on validation, by its first seed."""
    first = {}
    for row in rows:
        first.setdefault(row["point"], row["validation_nll"])
    return min(first, key=first.__getitem__)


def seconds(settings: Study, model: str, row: Mapping[str, Any]) -> float:
    """What it took to learn what ``row`` scores, without its sweep; NaN where that is not known any more."""
    contest = Contest(Bench(settings, model, Level.parse(row["level"])), row["method"])
    path = paths.cost_of(settings, contest.goal(row["point"], row["learning_rate"], row["seed"]))
    return cells.read(path)["cost"][0]["seconds"] if path.exists() else math.nan


def waits(settings: Study, model: str, level: Level, method: str) -> dict[str, float]:
    """Seconds to read a window and to write a token, with the best size, and without a repair (``..., alone``); empty if not known any more."""
    path = paths.cost_of(settings, paths.compared(settings, model, level, method) / "latency")
    return {cost["work"]: cost["seconds"] for cost in cells.read(path)["cost"]} if path.exists() else {}


@dataclass
class Contest:
    """``method`` on one ``bench``."""

    bench: Bench
    method: str

    @cached_property
    def repair(self) -> RepairSpec:
        """Its sizes and rates."""
        return self.bench.study.comparison.repairs[self.method]

    @property
    def seeds(self) -> tuple[int, ...]:
        """Its own, or the comparison's."""
        return self.repair.seeds or self.bench.study.comparison.seeds

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What the cell depends on."""
        settings, spec = self.bench.study, self.bench.study.comparison
        rate = self.repair.rates[0] if self.repair.rates else None
        lessons = [
            self.bench.lesson(self.method, seed, sized(settings, self.method, size, rate)).identity
            for size in self.repair.sizes.values()
            for seed in self.seeds
        ]
        return {
            "lessons": digests.short(lessons),
            "repair": asdict(self.repair),
            "further_rates": spec.further_rates,
            "evaluation": scores.evaluation(settings),
            "tasks": [asdict(settings.tasks), asking.own_tasks(settings)] if self._asked else None,
            "code": digests.code([registry(settings).file(self.method), Path(__file__)]),
        }

    @property
    def _asked(self) -> bool:
        control = registry(self.bench.study).get(self.method).control
        return not control and str(self.bench.level) in self.bench.study.tasks.levels

    def held(self) -> dict[str, Any]:
        """Sweep the rate at the first size; learn all sizes with all seeds at the best; score them, time the best and ask it the tasks."""
        first, *_ = self.repair.sizes
        swept, best, at_edge = [], None, False
        if self.repair.rates:
            swept, found = self._swept(first)
            best = min(found, key=found.__getitem__)
            at_edge = best in (min(found), max(found))
        rows, learned_first = [], {}
        for point in self.repair.sizes:
            for seed in self.seeds:
                learned, told = self._learned(point, best, seed)
                about = {"point": point, "learning_rate": best, "seed": seed, "at_edge": at_edge, "swept": point == first, **told}
                taught = {"trained_on": self.bench.study.soft_prompt.corpus, "trained_at_level": str(self.bench.level)}
                own = {"reused": True} if self._is_own(point, best) else {}
                rows += self.bench.score(learned, **taught, **about, **own)
                learned_first.setdefault(point, learned)
        best_of_all = best_size(rows)
        return {"swept": swept, "perplexity": rows, "tasks": self._tried(best_of_all, learned_first[best_of_all])}

    def _swept(self, point: str) -> tuple[list[dict[str, Any]], dict[float, float]]:
        """The rates that were tried at the size ``point``: a row for each that something was learned at, and the validation NLL of all, infinite
        where the training diverged. Raises :class:`ParameterError` where every training did.
        """
        study, rows, said = self.bench.study, [], []
        saved.make(study, self.bench.model, self.bench.level)  # before, since what fails there is no fault of a rate

        def validation_nll(rate: float) -> float:
            try:
                told = self._learned(point, rate, self.seeds[0])[1]
            except FloatingPointError as error:
                said.append(str(error))
                return math.inf
            rows.append({"point": point, "learning_rate": rate, **told})
            return told["validation_nll"]

        found = sweep(self.repair.rates, validation_nll, study.comparison.further_rates)
        if not rows:
            tried = ", ".join(f"{rate:g}" for rate in sorted(found))
            diverged = f"comparison.repairs.{self.method}.rates: at {self.bench.level}, a training diverges at each of {tried}"
            raise ParameterError(f"{diverged}; take lower rates (the last said: {said[-1]})")
        return rows, found

    def goal(self, point: str, rate: float | None, seed: int) -> Path:
        """Where what was learned lies: the study's own prompts are taken from their cells."""
        settings, bench = self.bench.study, self.bench
        if self._is_own(point, rate):
            return paths.learned(settings, bench.model, bench.level, self.method, seed)
        folder = models.slug(point if rate is None else f"{point}-{rate:g}")
        return paths.compared(settings, bench.model, bench.level, self.method) / folder / f"seed-{seed}"

    def _is_own(self, point: str, rate: float | None) -> bool:
        settings = self.bench.study
        return self.method == PROMPT and sized(settings, self.method, self.repair.sizes[point], rate) == settings.soft_prompt

    def learned(self, point: str, rate: float | None, seed: int, bench: Bench | None = None) -> Learned:
        """One size at one rate with one seed; made if missing, and read for the network of another ``bench`` if there is one."""
        settings = self.bench.study
        label = f"{self.method} {point}" + (f", rate {rate:g}" if rate else "")
        made = {
            "own": sized(settings, self.method, self.repair.sizes[point], rate),
            "goal": self.goal(point, rate, seed),
            "label": label,
        }
        return self.bench.learned(self.method, seed, **made, onto=bench.network if bench else None)

    def _learned(self, point: str, rate: float | None, seed: int) -> tuple[Learned, dict[str, float]]:
        """The same, with its validation NLL, and by how much that fell in the second half of the training."""
        learned = self.learned(point, rate, seed)
        if learned.run is None:
            text = selection.split_windows(
                self.bench.study, self.bench.tokenizer, self.bench.study.soft_prompt.corpus, "validation"
            )
            with learned.on(self.bench.network) as subject:
                return learned, {"validation_nll": perplexity_of(subject, text).nll, "falling": 0.0}
        curve = [row["validation_nll"] for row in learned.run.curve]
        return learned, {"validation_nll": learned.run.best_nll, "falling": curve[len(curve) // 2] - curve[-1]}

    def _tried(self, point: str, learned: Learned) -> list[dict[str, Any]]:
        """How long the best size makes a reader wait, kept with the costs; and its answers, where tasks are asked at this level."""
        bench, settings = self.bench, self.bench.study
        text = bench.scored[settings.soft_prompt.corpus].windows[0]
        alone = bench.learned(NONE.name, settings.seed)
        waits = {}
        for name, one in (("alone", alone), ("repaired", learned), ("alone again", alone)):
            with one.on(bench.network) as subject:
                waits[name] = latency(subject, text)
        before, after = waits["alone"], waits["alone again"]
        waits["alone"] = tuple(min(pair) for pair in zip(before, after, strict=True))
        costs = [
            Cost(work if name == "repaired" else f"{work}, alone", tokens, seconds=seconds)
            for name in ("repaired", "alone")
            for work, tokens, seconds in zip(("read", "write"), (len(text), 1), waits[name], strict=True)
        ]
        about = {"model": bench.model, "level": str(bench.level), "method": self.method, "point": point}
        cells.write_cost(settings, paths.compared(settings, bench.model, bench.level, self.method) / "latency", about, costs)
        if not self._asked:
            return []
        asking.prepare(settings, settings.tasks.names, settings.tasks.items)
        seed = self.seeds[0]
        return asking.ask(bench, learned, point=point, seed=seed, trained_at_level=str(bench.level))


def sweep(rates: Sequence[float], validation_nll: Callable[[float], float], further: int) -> dict[float, float]:
    """The validation NLL of each of ``rates``, and of up to ``further`` beyond: one more by the same factor, while the best is at an end."""
    found = {rate: validation_nll(rate) for rate in sorted(set(rates))}
    for _ in range(further if len(found) > 1 else 0):
        tried, best = sorted(found), min(found, key=found.__getitem__)
        if best not in (tried[0], tried[-1]):
            break
        neighbour = tried[1] if best == tried[0] else tried[-2]
        beyond = float(f"{best * (best / neighbour):.2g}")
        found[beyond] = validation_nll(beyond)
    return found


@one_sentence()
def main() -> None:
    """The command line."""
    cell = scores.asked("ctp_lib.recovery.comparison", "Learn and score a repair at all its sizes.")
    for row in obtain(*cell)["perplexity"]:
        print(f"{row['point']}, {row['evaluated_on']}, seed {row['seed']}: perplexity {row['ppl']:.3f}")


if __name__ == "__main__":
    main()
