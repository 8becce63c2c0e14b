"""C11: the same prompt on another model."""

import statistics
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from ctp_lib.claims.rules import Verdict, differences, everywhere_lower, over_seeds, together
from ctp_lib.recovery.none import METHOD as NONE


def table(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """One row a level and prompt_kind (own, stitched, untrained): perplexity, the gain over no prompt and over an untrained one."""
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault((row["level"], row["prompt_kind"]), []).append(row)
    table = {}
    for (level, kind), runs in found.items():
        if kind != NONE.name:
            gain, beyond = over_seeds(runs, found[level, NONE.name]), over_seeds(runs, found[level, "untrained"])
            table[level, kind] = {
                "ppl_none": found[level, NONE.name][0]["ppl"],
                "ppl": statistics.fmean(row["ppl"] for row in runs),
                "gain": gain.mean,
                "gain_stderr": gain.stderr,
                "beyond_untrained": beyond.mean,
                "beyond_untrained_stderr": beyond.stderr,
            }
    return pd.DataFrame.from_dict(table, orient="index").rename_axis(["level", "prompt_kind"])


def verdict(table: pd.DataFrame) -> Verdict:
    """C11: does the stitched prompt clearly lower the other model's perplexity, and clearly more than an untrained one, everywhere?"""
    stitched, own, untrained = (table.xs(kind, level="prompt_kind") for kind in ("stitched", "own", "untrained"))
    beyond = differences(stitched, "beyond_untrained")
    measured = (
        f"stitched to another model, the prompt changes its NLL by {stitched.gain.min():+.3f} to {stitched.gain.max():+.3f} nats (clearly lower "
        f"at {sum(gain.lower for gain in differences(stitched))} of {len(stitched)} levels), the model's own prompt by {own.gain.min():+.3f} to "
        f"{own.gain.max():+.3f}, an untrained one by {untrained.gain.min():+.3f} to {untrained.gain.max():+.3f}"
    )
    says = "a prompt works on another model with the same tokenizer and width"
    return Verdict("C11", says, measured, together([everywhere_lower(differences(stitched)), everywhere_lower(beyond)]))
