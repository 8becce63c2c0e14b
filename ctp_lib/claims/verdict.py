"""From estimates to outcomes. No verdict is typed anywhere: each follows from intervals and from the margins of ``params.yaml``."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ctp_lib.claims.estimate import Estimate, another_machine, mean
from ctp_lib.settings import paths
from ctp_lib.settings.study import Study

Outcome = Literal["supported", "contradicted", "undecided", "not measured"]


@dataclass(frozen=True)
class Cell:
    """One place where a claim was tested: the effect with the ends of its interval, positive in favour of the claim. A mean over all places
    has no name.
    """

    name: str
    estimate: float
    low: float | None
    high: float | None
    outcome: Outcome


@dataclass(frozen=True)
class Part:
    """One question of a claim, over all cells where it was asked. Intervals hold for all cells together. ``silent`` cells do not vote, for
    the reason that is given.
    """

    question: str
    unit: str
    margin: float
    estimate: float | None
    low: float | None
    high: float | None
    cells: tuple[Cell, ...]
    seeds: int
    clusters: int
    silent: Mapping[str, str]

    @property
    def outcome(self) -> Outcome:
        """Supported where every cell supports it, contradicted where one contradicts it, else undecided."""
        return together(cell.outcome for cell in self.cells)

    def told(self, yes: str, no: str) -> str:
        """The cells by outcome, in a few words: ``yes`` where supported, ``no``, which is a negation, where contradicted."""
        found: dict[str, list[str]] = {}
        for cell in self.cells:
            found.setdefault(cell.outcome, []).append(cell.name)
        words = {"supported": yes, "contradicted": "not" if "supported" in found else no, "undecided": "undecided"}
        parts = []
        for outcome, names in ((outcome, found[outcome]) for outcome in words if outcome in found):
            if len(names) == len(self.cells):
                every = "any of" if outcome == "contradicted" else "all"
                both = "either of 2" if outcome == "contradicted" else "both"
                where = f"in {both if len(names) == 2 else f'{every} {len(names)}'} cells" if len(names) > 1 else f"at {names[0]}"
            else:
                of = " cells" if parts else f" of {len(self.cells)} cells"
                where = f"at {listed(names)}" if len(names) <= (2 if parts else 4) else f"in {len(names)}{of}"
            parts.append(f"{words[outcome]} {where.removesuffix('at ')}".strip())
        told = "; ".join(parts) or "not measured"
        return told[0].upper() + told[1:]


def together(outcomes: Iterable[Outcome]) -> Outcome:
    """The outcome of a claim that says several things: all supported, one contradicted, or undecided; what was not measured stands aside."""
    found = [outcome for outcome in outcomes if outcome != "not measured"]
    if not found:
        return "not measured"
    if "contradicted" in found:
        return "contradicted"
    return "supported" if set(found) == {"supported"} else "undecided"


def judge(
    question: str,
    effects: Mapping[str, Estimate],
    margin: float,
    unit: str = "nats",
    *,
    silent: Mapping[str, str] | None = None,
    unfinished: Iterable[str] = (),
) -> Part:
    """A question by its ``effects``, a cell each, positive in favour: supported beyond ``margin``, contradicted short of it, else undecided.

    ``silent`` names cells that do not vote, with the reason; it may name others than are asked here. What was still learning at its end
    (``unfinished``) may support a claim; it cannot contradict one, and then it is undecided.
    """
    silent = {name: why for name, why in (silent or {}).items() if name in effects}
    asked = {name: effect for name, effect in effects.items() if name not in silent}
    if not asked:
        return Part(question, unit, margin, None, None, None, (), 0, 0, silent)
    machine, learning = another_machine(asked.values()), set(unfinished)
    cells = []
    for name, effect in asked.items():
        low, high = effect.interval(len(asked), machine)
        outcome: Outcome = "supported" if low > margin else "undecided"
        if high <= margin and name not in learning:
            outcome = "contradicted"
        cells.append(Cell(name, effect.mean, *_finite((low, high)), outcome))
    average = mean(list(asked.values()))
    ends = _finite(average.interval(machine=machine))
    drawn = average.number("seeds"), average.number("units")
    return Part(question, unit, margin, average.mean, *ends, tuple(cells), *drawn, silent)


def pooled(effects: Iterable[Estimate]) -> dict[str, Estimate]:
    """The mean over cells as a cell of its own, without a name; nothing where there are none."""
    effects = list(effects)
    return {"": mean(effects)} if effects else {}


def without_cost(costs: Mapping[str, Estimate], margin: float) -> dict[str, str]:
    """The cells in which compression does not clearly cost more than ``margin``: there is nothing to recover in them."""
    ends = {name: cost.interval(len(costs)) for name, cost in costs.items()}
    return {
        name: f"compression costs {cost.mean:.3g} [{ends[name][0]:.3g}, {ends[name][1]:.3g}], not clearly more than {margin:g}"
        for name, cost in costs.items()
        if ends[name][0] <= margin
    }


def counted(question: str, answers: Mapping[str, float], margin: float, unit: str) -> Part:
    """A question about what is counted and does not vary, such as bytes: above ``margin`` it is supported, else contradicted."""
    return judge(question, {name: Estimate(float(value), {}) for name, value in answers.items()}, margin, unit)


@dataclass(frozen=True)
class Verdict:
    """What a claim says, and what was found: a headline, the parts behind it, and figures in words."""

    claim: str
    question: str
    headline: str
    parts: tuple[Part, ...]
    figures: str
    notebook: str

    @property
    def outcome(self) -> Outcome:
        """That of all parts together. Without its first question a claim is not measured, and without another it is at most undecided."""
        outcomes = [part.outcome for part in self.parts]
        if outcomes[0] == "not measured":
            return "not measured"
        found = together(outcomes)
        return "undecided" if found == "supported" and "not measured" in outcomes else found

    def record(self) -> dict[str, Any]:
        """All of it as JSON has it."""
        found = asdict(self) | {"outcome": self.outcome}
        return found | {"parts": [asdict(part) | {"outcome": part.outcome} for part in self.parts]}

    def page(self) -> str:
        """What it says, its outcome and all that is behind it, in Markdown."""
        found = self.record()
        says = f"**{self.claim}.** {self.question[0].upper()}{self.question[1:]}."
        return "\n".join([says, "", f"**{self.outcome.capitalize()}.** {self.headline}.", "", *behind(found)])

    def _repr_markdown_(self) -> str:
        return self.page()

    def write(self, settings: Study, model: str) -> None:
        """Keep it for the ledger."""
        path = paths.claim(settings, model, self.claim)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.record(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def behind(claim: Mapping[str, Any]) -> list[str]:
    """What is behind the outcome of a claim (:meth:`Verdict.record`), in Markdown: a line a question, with all its cells."""
    return [_line(part) for part in claim["parts"]] + ([f"- Also: {claim['figures']}."] if claim["figures"] else [])


def _line(part: Mapping[str, Any]) -> str:
    cells = [f"{cell['name'] or 'mean'} {_reach(cell)} {_outcome(cell, part)}" for cell in part["cells"]]
    silent = [f"{name} does not vote ({why})" for name, why in part["silent"].items()]
    seeds = f"{part['seeds']} seed{'s' if part['seeds'] > 1 else ''}" if part["seeds"] else "nothing trained"
    counted = [seeds, f"{part['clusters']} documents or groups of items"] if part["clusters"] else []
    about = ", ".join([f"margin {part['margin']:+g} {part['unit']}", *counted])
    return (
        f"- {part['question']}: **{part['outcome']}** ({about}). {'; '.join([*cells, *silent]) or 'This study has no such cell'}."
    )


def _outcome(cell: Mapping[str, Any], part: Mapping[str, Any]) -> str:
    """Its outcome; what lies below the margin is undecided only where a prompt was still learning."""
    below = cell["high"] is not None and cell["high"] <= part["margin"]
    return f"{cell['outcome']} (still learning)" if below and cell["outcome"] == "undecided" else cell["outcome"]


def _reach(cell: Mapping[str, Any]) -> str:
    return f"{cell['estimate']:+.3f}" + ("" if cell["low"] is None else f" [{cell['low']:+.3f}, {cell['high']:+.3f}]")


def listed(parts: Sequence[str]) -> str:
    """``parts`` as a sentence lists them: a, b and c."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def _finite(ends: tuple[float, float]) -> tuple[float | None, float | None]:
    return ends if all(map(math.isfinite, ends)) else (None, None)
