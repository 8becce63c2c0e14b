"""The rules by which a claim holds or not. No verdict is typed anywhere: each is a function of what was measured."""

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy.stats import bootstrap

from ctp_lib.settings import paths
from ctp_lib.settings.study import Study

STANDARD_ERRORS = 2.0
"""A difference counts when it is this many standard errors away from zero."""

Outcome = Literal["holds", "mixed", "does not hold", "not measured"]


@dataclass(frozen=True)
class Difference:
    """A mean of paired differences and its standard error, in nats a token; negative means lower NLL."""

    mean: float
    stderr: float

    @property
    def lower(self) -> bool:
        """Clearly below zero."""
        return self.mean < -STANDARD_ERRORS * self.stderr


def recovered_share(none: float, prompted: float, full: float) -> float:
    """(ppl_none - ppl_prompt) / (ppl_none - ppl_full): the share of the lost perplexity that is back; NaN when none was lost."""
    return (none - prompted) / (none - full) if none > full else math.nan


def differences(table: pd.DataFrame, name: str = "gain") -> list[Difference]:
    """The column ``name`` of ``table`` with its standard errors."""
    return [Difference(*pair) for pair in zip(table[name], table[f"{name}_stderr"], strict=True)]


def paired_difference(treated: Sequence[float], control: Sequence[float]) -> Difference:
    """``treated`` - ``control`` over the same windows. Raises :class:`ValueError` unless they are equally many, two or more."""
    if len(treated) != len(control) or len(treated) < 2:
        raise ValueError(f"{len(treated)} and {len(control)} windows cannot be paired; score the same two or more")
    differences = [a - b for a, b in zip(treated, control, strict=True)]
    return Difference(statistics.fmean(differences), statistics.stdev(differences) / math.sqrt(len(differences)))


def everywhere_lower(differences: Sequence[Difference]) -> Outcome:
    """The verdict on "lowers it everywhere": all clearly lower; some, and more clearly than chance would give among so many; or none."""
    if not differences:
        return "not measured"
    if all(difference.lower for difference in differences):
        return "holds"
    strict = statistics.NormalDist().inv_cdf(1 - 0.025 / len(differences))  # Bonferroni
    found = any(difference.mean < -strict * difference.stderr for difference in differences)
    return "mixed" if found else "does not hold"


def paired_bootstrap(
    treated: Sequence[float], control: Sequence[float], confidence: float = 0.95, seed: int = 0
) -> tuple[float, float, float]:
    """``treated`` - ``control``, and the ends of its interval at ``confidence``, by resampling the same units of both.

    Raises :class:`ValueError` unless they are equally many.
    """
    differences = [a - b for a, b in zip(treated, control, strict=True)]
    if len(set(differences)) == 1:
        return differences[0], differences[0], differences[0]
    found = bootstrap(
        (differences,), np.mean, confidence_level=confidence, method="percentile", rng=np.random.default_rng(seed)
    ).confidence_interval
    return statistics.fmean(differences), float(found.low), float(found.high)


def over_seeds(rows: Sequence[Mapping[str, Any]], controls: Sequence[Mapping[str, Any]]) -> Difference:
    """How much lower or higher NLL is in ``rows`` than in ``controls`` (each the same cell, one row a seed), over the same windows.

    The variance adds that of the windows, paired and averaged over seeds, and those of the two means over seeds. Raises
    :class:`ValueError` when other text was scored in one of them.
    """
    if len({row["text_digest"] for row in (*rows, *controls)}) > 1:
        raise ValueError("other text was scored with than without; run `dvc repro`")
    windows = paired_difference(window_means(rows), window_means(controls))
    return Difference(windows.mean, math.hypot(windows.stderr, _seed_error(rows), _seed_error(controls)))


def window_means(rows: Sequence[Mapping[str, Any]]) -> list[float]:
    """The NLL of every window, a mean over the seeds of one cell."""
    return unit_means(row["window_nll"] for row in rows)


def unit_means(runs: Iterable[Sequence[float]]) -> list[float]:
    """The mean over ``runs`` of every unit (a window, an item) that each of them measured. Raises :class:`ValueError` unless all
    runs have equally many.
    """
    return [statistics.fmean(unit) for unit in zip(*runs, strict=True)]


def net_gain(
    treated: Sequence[Mapping[str, Any]],
    control: Sequence[Mapping[str, Any]],
    treated_full: Sequence[Mapping[str, Any]],
    full: Sequence[Mapping[str, Any]],
) -> Difference:
    """The gain at a level less the gain of the uncompressed model, over the same windows: below zero, the prompt repairs something."""
    here = [a - b for a, b in zip(window_means(treated), window_means(control), strict=True)]
    there = [a - b for a, b in zip(window_means(treated_full), window_means(full), strict=True)]
    windows = paired_difference(here, there)
    return Difference(windows.mean, math.hypot(windows.stderr, _seed_error(treated), _seed_error(treated_full)))


def _seed_error(rows: Sequence[Mapping[str, Any]]) -> float:
    return statistics.stdev(row["nll"] for row in rows) / math.sqrt(len(rows)) if len(rows) > 1 else 0.0


def clearly(difference: Difference) -> Outcome:
    """The verdict on "is lower": only where the difference is clear."""
    if math.isnan(difference.mean):
        return "not measured"
    return "holds" if difference.lower else "does not hold"


def counted(answers: Iterable[bool]) -> Outcome:
    """The verdict on a list of yes and no: all of them, some, or none."""
    found = [bool(answer) for answer in answers]
    if not found:
        return "not measured"
    return "holds" if all(found) else "mixed" if any(found) else "does not hold"


def together(parts: Iterable[Outcome]) -> Outcome:
    """The verdict on a claim of several parts, those that were not measured aside: all hold, none does, or mixed."""
    found = set(parts) - {"not measured"}
    return "mixed" if len(found) > 1 else found.pop() if found else "not measured"


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
        path = paths.claim(settings, model, self.claim)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
