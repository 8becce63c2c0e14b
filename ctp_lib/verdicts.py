"""The rules by which a claim holds or not. No verdict is typed anywhere: each is a function of what was measured."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ctp_lib import places
from ctp_lib.study import Study

STANDARD_ERRORS = 2.0
"""A difference counts when it is this many standard errors away from zero."""

Outcome = Literal["holds", "mixed", "does not hold"]


@dataclass(frozen=True)
class Difference:
    """A mean of paired differences and its standard error, in nats a token; negative means lower NLL."""

    mean: float
    stderr: float

    @property
    def lower(self) -> bool:
        """Clearly below zero."""
        return self.mean < -STANDARD_ERRORS * self.stderr


def paired_difference(treated: Sequence[float], control: Sequence[float]) -> Difference:
    """``treated`` - ``control`` over the same windows. Raises :class:`ValueError` unless they are equally many, two or more."""
    if len(treated) != len(control) or len(treated) < 2:
        raise ValueError(f"{len(treated)} and {len(control)} windows cannot be paired; score the same two or more")
    differences = [a - b for a, b in zip(treated, control, strict=True)]
    return Difference(statistics.fmean(differences), statistics.stdev(differences) / math.sqrt(len(differences)))


def everywhere_lower(differences: Sequence[Difference]) -> Outcome:
    """The verdict on "lowers it at every level" (C2): all, some, or none clearly lower."""
    lower = sum(difference.lower for difference in differences)
    return "holds" if lower == len(differences) else "mixed" if lower else "does not hold"


def over_seeds(rows: Sequence[Mapping[str, Any]], control: Mapping[str, Any]) -> Difference:
    """How much lower or higher NLL is in ``rows`` (the same cell, one row a seed) than in ``control``, over the same windows.

    The variance adds that of the windows, paired and averaged over seeds, and that of the mean over seeds. Raises
    :class:`ValueError` when other text was scored in one of them.
    """
    if any(row["text_digest"] != control["text_digest"] for row in rows):
        raise ValueError("other text was scored with than without; run `dvc repro`")
    windows = paired_difference([statistics.fmean(nll) for nll in zip(*(row["window_nll"] for row in rows), strict=True)], control["window_nll"])
    spread = statistics.stdev(row["nll"] for row in rows) if len(rows) > 1 else 0.0
    return Difference(windows.mean, math.hypot(windows.stderr, spread / math.sqrt(len(rows))))


def clearly(difference: Difference) -> Outcome:
    """The verdict on "is lower": only where the difference is clear."""
    return "holds" if difference.lower else "does not hold"


def together(parts: Iterable[Outcome]) -> Outcome:
    """The verdict on a claim of several parts: all hold, none does, or mixed."""
    found = set(parts)
    return found.pop() if len(found) == 1 else "mixed"


@dataclass(frozen=True)
class Verdict:
    """What became of one claim: ``measured`` are the figures behind the outcome, in one sentence each."""

    claim: str
    says: str
    measured: str
    outcome: Outcome

    def __str__(self) -> str:
        return f"{self.claim} {self.outcome}: {self.measured}"

    def write(self, settings: Study, model: str) -> None:
        """Keep it for the ledger."""
        path = places.claim_path(settings, model, self.claim)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
