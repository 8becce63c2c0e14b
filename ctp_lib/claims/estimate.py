"""What was measured, as a mean and the independent draws that it varies with: documents, items of a task, seeds.

A mean over documents and seeds varies with both: its variance is the sum of the variances of the two margins, over their numbers (crossed
random effects; the interaction is counted twice, which errs on the safe side). For each source, Student's t gives a half-width with its own
degrees of freedom, and the squares of the half-widths add up. So a few seeds give wide intervals, and one seed gives none. (One t for the sum,
after Satterthwaite, is too narrow where three seeds matter most: 0.93 in place of 0.95 by the simulation in the tests.)

The last bits of a sum depend on the processor, and training amplifies them: with AVX2 in place of AVX-512 the gains of the embedded study
moved by 0.0016 nats (one standard deviation), and a seed moves them by 0.0017. So another machine counts as one more draw of a seed.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t as student

CONFIDENCE = 0.95
Row = Mapping[str, Any]
Rows = Iterable[Row]
"""What was measured, by the names of its columns; mostly a row a corpus and seed, as in ``perplexity.csv``."""


@dataclass(frozen=True, eq=False)
class Estimate:
    """A ``mean``, and by source of variation its independent ``draws``, each an array whose mean varies as ``mean`` does.

    Sources of one name are the same draws in the same order: a difference or a mean of several estimates pairs them.
    """

    mean: float
    draws: Mapping[str, np.ndarray]

    def __sub__(self, other: Estimate) -> Estimate:
        return total([self, -1.0 * other])

    def __rmul__(self, factor: float) -> Estimate:
        return Estimate(factor * self.mean, {source: factor * values for source, values in self.draws.items()})

    @property
    def stderr(self) -> float:
        """The standard error; infinite where a source was drawn only once."""
        return math.sqrt(sum(variance for variance, _ in self._terms()))

    def interval(self, among: int = 1, machine: tuple[float, int] = (0.0, 0)) -> tuple[float, float]:
        """The ends of the 95 % interval, which holds for ``among`` such intervals together (Bonferroni); ``machine`` is what
        :func:`another_machine` gives.
        """
        tail, terms = (1 - CONFIDENCE) / 2 / among, [*self._terms(), machine]
        squares = [variance * (student.isf(tail, freedom) ** 2 if freedom else 1.0) for variance, freedom in terms]
        reach = math.sqrt(sum(squares))
        return self.mean - reach, self.mean + reach

    def number(self, kind: str) -> int:
        """How many draws the rarest source has whose name begins with ``kind``; 0 without such a source."""
        return min((len(values) for source, values in self.draws.items() if source.startswith(kind)), default=0)

    def _terms(self) -> list[tuple[float, int]]:
        return [
            (float(np.var(values, ddof=1)) / len(values) if len(values) > 1 else math.inf, len(values) - 1)
            for values in self.draws.values()
        ]


def another_machine(estimates: Iterable[Estimate]) -> tuple[float, int]:
    """The variance that another processor adds to each of ``estimates``, that of one more seed, and its degrees of freedom: pooled, since a
    processor makes itself felt everywhere. Nothing where no seed was drawn twice.
    """
    of_seeds = [[values for source, values in one.draws.items() if source.startswith("seeds")] for one in estimates]
    drawn = [sources for sources in of_seeds if sources and all(len(values) > 1 for values in sources)]
    if not drawn:
        return 0.0, 0
    variance = statistics.fmean(sum(float(np.var(values, ddof=1)) for values in sources) for sources in drawn)
    return variance, sum(len(values) - 1 for sources in drawn for values in sources)


def total(estimates: Sequence[Estimate]) -> Estimate:
    """The sum. Raises :class:`ValueError` where a source was drawn more often in one than in another."""
    draws: dict[str, np.ndarray] = {}
    for estimate in estimates:
        for source, values in estimate.draws.items():
            if len(draws.setdefault(source, np.zeros_like(values))) != len(values):
                raise ValueError(f"{len(draws[source])} and {len(values)} draws of {source} cannot be paired; run `make repro`")
            draws[source] = draws[source] + values
    return Estimate(sum(estimate.mean for estimate in estimates), draws)


def mean(estimates: Sequence[Estimate]) -> Estimate:
    """The mean of one estimate or more."""
    return (1 / len(estimates)) * total(estimates)


def ratio(part: Estimate, whole: Estimate) -> Estimate:
    """``part`` as a share of ``whole``, which both vary (to first order, the delta method)."""
    share = part.mean / whole.mean
    return Estimate(share, ((1 / whole.mean) * (part - share * whole)).draws)


def of_runs(values: Sequence[Sequence[float]], units: str, runs: str | None, clusters: Sequence[int] | None = None) -> Estimate:
    """The mean of ``values`` (runs x units), which varies with ``units``, and with ``runs`` where one is a draw of those.

    ``clusters`` says which units belong together (documents cut into windows); by default each stands alone.
    """
    table = np.asarray(values, dtype=float)
    over_runs = table.mean(0)
    labels = np.arange(len(over_runs)) if clusters is None else np.unique(np.asarray(clusters), return_inverse=True)[1]
    number = labels.max() + 1
    off = np.bincount(labels, weights=over_runs - over_runs.mean()) * number / len(over_runs)
    draws = {f"units of {units}": over_runs.mean() + off}
    if runs is not None:
        draws[runs] = table.mean(1)
    return Estimate(float(table.mean()), draws)


def of_rows(rows: Rows, column: str = "window_nll", *, over_seeds: bool = True) -> Estimate:
    """The mean NLL (or, by ``column``, divergence) of one cell's rows, a row a seed, in nats per token; :func:`gain` says what is asked of them.

    Rows of one corpus share their documents, whatever was scored on them; rows of one method and the same seeds share those.
    """
    rows = sorted(rows, key=lambda row: row["seed"])
    first, seeds = rows[0], [row["seed"] for row in rows]
    drawn = (first["trainable_parameters"] or len(rows) > 1) and over_seeds  # several rows of a control differ in what was drawn
    learned = f"seeds of {first['method']}, {seeds}" if drawn else None
    text = f"{first['evaluated_on']}, {first['text_digest']}"
    return of_runs([row[column] for row in rows], text, learned, first.get("clusters"))


def gain(treated: Rows, control: Rows, column: str = "window_nll", *, over_seeds: bool = True) -> Estimate:
    """How much lower NLL is in ``treated`` than in ``control``, in nats per token: above zero, the treatment helps.

    Without ``over_seeds`` it is about these very weights, not about others that would be learned in the same way. Raises :class:`ValueError`
    when some of it was scored on other text.
    """
    treated, control = list(treated), list(control)
    if len({row["text_digest"] for row in (*treated, *control)}) > 1:
        raise ValueError("other text was scored with than without; run `make repro`")
    return of_rows(control, column, over_seeds=over_seeds) - of_rows(treated, column, over_seeds=over_seeds)


def recovered_share(none: float, prompted: float, full: float) -> float:
    """(ppl_none - ppl_prompt) / (ppl_none - ppl_full): the share of the lost perplexity that is back; NaN when none was lost."""
    return (none - prompted) / (none - full) if none > full else math.nan


def mean_of(rows: Rows, column: str) -> float:
    """The mean of a column over a cell's rows."""
    return statistics.fmean(row[column] for row in rows)


def grouped(rows: Rows, *names: str) -> dict[Any, list[Row]]:
    """``rows`` by what ``names`` say of them, as a tuple, in the order in which they come."""
    groups: dict[Any, list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in names), []).append(row)
    return groups


def flat(table: pd.DataFrame) -> pd.DataFrame:
    """``table`` for files: each column of estimates as its means, and the ends of their intervals as ``<name>_low`` and
    ``<name>_high``, each row by itself.
    """
    found = {}
    for name, column in table.items():
        if len(column) and isinstance(column.iloc[0], Estimate):
            found[name] = column.map(lambda estimate: estimate.mean)
            for end, values in zip(("low", "high"), zip(*(estimate.interval() for estimate in column), strict=True), strict=True):
                found[f"{name}_{end}"] = pd.Series(values, index=table.index)
        else:
            found[name] = column
    return pd.DataFrame(found, index=table.index)
