"""What a prompt does where it was not learned: the table behind C5, C6 and what a transfer saves (C9)."""

from collections.abc import Sequence

import pandas as pd

from ctp_lib.claims.estimate import Rows, gain, grouped, mean_of, recovered_share
from ctp_lib.recovery.none import METHOD as NONE


def transfer_table(
    rows: Rows, *, levels: Sequence[str], by: str, seeds: Sequence[int], evaluated_on: str | None = None
) -> pd.DataFrame:
    """What every prompt does at every level: index (``by``, level, evaluated_on), without the last where only one corpus is asked for.

    Prompts of other ``seeds`` are left out. ``by`` names where a prompt was learned, ``trained_on`` or ``trained_at_level``. ``gain`` is what
    it gives over the same model without a prompt, ``cost`` what compression took, both as estimates in nats per token; ``runs`` are the rows
    behind it.
    """
    asked = [row for row in rows if evaluated_on in (None, row["evaluated_on"])]
    none = {(row["level"], row["evaluated_on"]): row for row in asked if row["method"] == NONE.name}
    learned = (row for row in asked if row["method"] != NONE.name and row["level"] in levels and row["seed"] in seeds)
    table = {}
    for (source, level, corpus), found in grouped(learned, by, "level", "evaluated_on").items():
        control, full, ppl = none[level, corpus], none["full", corpus], mean_of(found, "ppl")
        table[source, level, corpus] = {
            "ppl_none": control["ppl"],
            "ppl": ppl,
            "cost": gain([full], [control]),
            "recovered": recovered_share(control["ppl"], ppl, full["ppl"]),
            "gain": gain(found, [control]),
            "seeds": len(found),
            "runs": found,
        }
    every = pd.DataFrame.from_dict(table, orient="index").rename_axis([by, "level", "evaluated_on"])
    return every if evaluated_on is None else every.droplevel("evaluated_on")
