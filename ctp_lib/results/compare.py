"""``python -m ctp_lib.results.compare``: a run beside the recorded one of the same study. Do its tables agree, and every outcome?

Two processors round in other ways, and training amplifies the last bit. How much is expected stands in the recorded run's ``tolerance.json``,
which ``--tolerate`` writes: the widest differences between the recorded run and a second one, made on other instructions.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from ctp_lib.settings import paths, study
from ctp_lib.settings.spec import ParameterError

VALUES = {"perplexity": ["nll", "kl"], "tasks": ["value"]}
"""What is measured, by table; the other columns, less what follows from these, name the row."""
FOLLOWS = {"ppl", "ppl_released", "stderr"}
TOLERANCE = "tolerance.json"


def differences(here: Path, there: Path) -> pd.DataFrame:
    """One row a table and column: rows in both runs, rows in one alone, and the median and widest absolute difference."""
    found = {}
    for name, values in VALUES.items():
        ours, theirs = (_read(folder / f"{name}.csv") for folder in (here, there))
        keys = [column for column in ours.columns.intersection(theirs.columns) if column not in FOLLOWS | set(values)]
        both = ours.merge(theirs, on=keys, suffixes=("", "_recorded"), how="outer", indicator=True)
        shared = both[both._merge == "both"]
        for value in values:
            if f"{value}_recorded" in both:
                apart = (shared[value] - shared[f"{value}_recorded"]).abs()
                found[name, value] = (len(shared), len(both) - len(shared), apart.median(), apart.max())
    return pd.DataFrame.from_dict(found, orient="index", columns=["rows", "in one alone", "median", "widest"])


def claims(folder: Path) -> dict[tuple[str, str], str]:
    """The outcome of every claim, by model and claim. Raises :class:`ParameterError` when there is no ledger."""
    return {(claim["model"], claim["claim"]): claim["outcome"] for claim in json.loads(_text(folder / "claims.json"))}


def compare(here: Path, there: Path) -> tuple[str, bool]:
    """What differs between two runs, in words, and whether all of it agrees."""
    found, path = differences(here, there), there / TOLERANCE
    allowed: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    lines, agree = [], True
    for (table, value), row in found.iterrows():
        tolerance = allowed.get(f"{table}.{value}", 0.0)
        within = row.widest <= tolerance and not row["in one alone"]
        agree &= bool(within)
        lines.append(
            f"{table}.csv, {value}: {row.rows:.0f} rows in both runs, {row['in one alone']:.0f} in one alone; they differ by {row.widest:.2g} "
            f"at most (median {row['median']:.2g}, tolerance {tolerance:.2g}): {'agree' if within else 'DIFFER'}"
        )
    ours, theirs = claims(here), claims(there)
    other = [f"{' '.join(key)}: {ours.get(key)} here, {theirs.get(key)} there" for key in {**theirs, **ours} if ours.get(key) != theirs.get(key)]
    lines.append(f"{len(theirs)} outcomes: {'; '.join(other) or 'all the same'}")
    return "\n".join(lines), agree and not other


def _read(path: Path) -> pd.DataFrame:
    _text(path)
    return pd.read_csv(path)


def _text(path: Path) -> str:
    if not path.exists():
        raise ParameterError(f"{path} is not there; run `make repro`")
    return path.read_text(encoding="utf-8")


def main() -> None:
    """The command line; one sentence on stderr when it cannot be done, and 1 where the runs differ."""
    parser = argparse.ArgumentParser(prog="python -m ctp_lib.results.compare", description="This run beside the recorded one.")
    parser.add_argument("recorded", nargs="?", help="the run under results/recorded; the study's own unless said")
    parser.add_argument("--tolerate", action="store_true", help="state the differences as the recorded run's tolerance")
    asked = parser.parse_args()
    try:
        settings = study.load()
        here, there = paths.results(settings), paths.recorded(settings, asked.recorded or settings.study.name)
        if asked.tolerate:
            widest = {f"{table}.{value}": row.widest for (table, value), row in differences(here, there).iterrows()}
            (there / TOLERANCE).write_text(json.dumps(widest, indent=1) + "\n", encoding="utf-8")
        said, agree = compare(here, there)
    except ParameterError as error:
        sys.exit(str(error))
    print(said)
    sys.exit(not agree)


if __name__ == "__main__":
    main()
