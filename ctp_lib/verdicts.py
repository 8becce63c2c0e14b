"""Whether a claim of the paper holds, as a function of what the cells measured. No verdict is typed anywhere."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

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


def recovered_share(none: float, prompted: float, full: float) -> float:
    """(ppl_none - ppl_prompt) / (ppl_none - ppl_full): the share of the lost perplexity that is back; NaN when none was lost."""
    return (none - prompted) / (none - full) if none > full else math.nan


def recovery_table(cells: list[dict[str, Any]], *, evaluated_on: str) -> pd.DataFrame:
    """One row a level: perplexity without and with a prompt, exact and as released, and what the prompt recovers.

    ``gain`` is the paired difference in NLL (nats a token, negative is better) over the same windows, with its standard error.
    """
    rows = {
        (cell["cell"]["level"], cell["cell"]["method"]): row
        for cell in cells
        for row in cell["perplexity"]
        if row["evaluated_on"] == evaluated_on
    }
    bits = {cell["cell"]["level"]: cell["manifest"]["bits_per_weight"] for cell in cells if "manifest" in cell}
    table = {}
    for level in bits:
        none, prompted = rows[level, "none"], rows[level, "soft_prompt"]
        if none["text_digest"] != prompted["text_digest"]:
            raise ValueError(f"at {level} other text was scored with a prompt than without; run `dvc repro`")
        gain = paired_difference(prompted["window_nll"], none["window_nll"])
        table[level] = {
            "bits_per_weight": bits[level],
            "ppl_none": none["ppl"],
            "ppl_soft_prompt": prompted["ppl"],
            "ppl_released": prompted["ppl_released"],
            "recovered": recovered_share(none["ppl"], prompted["ppl"], rows["full", "none"]["ppl"]),
            "gain": gain.mean,
            "gain_stderr": gain.stderr,
        }
    return pd.DataFrame.from_dict(table, orient="index").rename_axis("level")
