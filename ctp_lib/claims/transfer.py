"""What a prompt does where it was not learned: the table behind C5, C6 and what a transfer saves (C9)."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from ctp_lib.claims.estimate import gain, mean_of, recovered_share
from ctp_lib.recovery.none import METHOD as NONE


def transfer_table(
    rows: Iterable[Mapping[str, Any]], *, levels: Sequence[str], by: str, seeds: Sequence[int], evaluated_on: str | None = None
) -> pd.DataFrame:
    """What every prompt does at every level: index (``by``, level, evaluated_on), without the last where only one corpus is asked for.

    Prompts of other ``seeds`` are left out. ``by`` names where a prompt was learned, ``trained_on`` or ``trained_at_level``. ``gain`` is what
    it gives over the same model without a prompt, ``cost`` what compression took, both as estimates in nats per token; ``runs`` are the rows
    behind it.
    """
    none: dict[tuple[str, str], Mapping[str, Any]] = {}
    prompted: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        if evaluated_on in (None, row["evaluated_on"]):
            at = row["level"], row["evaluated_on"]
            if row["method"] == NONE.name:
                none[at] = row
            elif row["level"] in levels and row["seed"] in seeds:
                prompted.setdefault((row[by], *at), []).append(row)
    table = {}
    for (source, level, corpus), found in prompted.items():
        control, full, ppl = none[level, corpus], none["full", corpus], mean_of(found, "ppl")
        table[(source, level, corpus) if evaluated_on is None else (source, level)] = {
            "ppl_full": full["ppl"],
            "ppl_none": control["ppl"],
            "ppl": ppl,
            "cost": gain([full], [control]),
            "recovered": recovered_share(control["ppl"], ppl, full["ppl"]),
            "gain": gain(found, [control]),
            "seeds": len(found),
            "runs": found,
        }
    names = [by, "level", *(() if evaluated_on else ("evaluated_on",))]
    return pd.DataFrame.from_dict(table, orient="index").rename_axis(names)
