"""Runs that are kept: all that a study made but weights and text, with its settings, machine and date; and another run beside a kept one.

``python -m ctp_lib.results.recorded keep`` keeps the present study's under ``results/recorded/<study>`` and ``figures/recorded/<study>``, which
are committed. ``compare`` says whether a run's tables and outcomes agree with those. Two processors round differently, and training amplifies
the last bit. ``tolerance.json`` says how large a difference is expected. ``compare --tolerate`` writes it: the widest differences of such a
run.
"""

import argparse
import datetime
import json
import math
import shutil
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from ctp_lib.results import cells, tables
from ctp_lib.results.provenance import provenance
from ctp_lib.settings import paths, study
from ctp_lib.settings.spec import ParameterError, one_sentence
from ctp_lib.settings.study import Study

VALUES = {"perplexity": ["nll", "kl"], "tasks": ["value"]}
"""What is measured, by table; the other columns, less what follows from these, name the row."""
FOLLOWS = {"ppl", "ppl_released", "stderr"}
TOLERANCE = "tolerance.json"


def keep(settings: Study, name: str) -> Path:
    """Copy the present run to where one of that name is kept, in its place. Raises :class:`ParameterError` when it is not complete."""
    made, kept, figures = paths.results(settings), paths.recorded(settings, name), settings.root / "figures"
    outcomes(made)
    for source, goal in ((figures / settings.study.name, figures / "recorded" / name), (made, kept)):
        paths.remove(goal)
        shutil.copytree(source, goal)
    shutil.copy(settings.root / "params.yaml", kept)
    about = {"date": datetime.date.today().isoformat(), **provenance(settings.root)}
    tables.write_text(json.dumps(about, indent=1), kept / "about.json")
    return kept


def outcomes(folder: Path) -> dict[tuple[str, str], str]:
    """The outcome of every claim, by model and claim. Raises :class:`ParameterError` when there is no ledger."""
    return {(claim["model"], claim["claim"]): claim["outcome"] for claim in cells.read(folder / "claims.json")}


def differences(here: Path, there: Path) -> pd.DataFrame:
    """One row a table and column: rows in both runs, rows in one alone, and the median and widest absolute difference."""
    found = {}
    for name, values in VALUES.items():
        ours, theirs = (_table(folder / f"{name}.csv") for folder in (here, there))
        keys = [column for column in ours.columns.intersection(theirs.columns) if column not in FOLLOWS | set(values)]
        both = ours.merge(theirs, on=keys, suffixes=("", "_recorded"), how="outer", indicator=True)
        shared = both[both._merge == "both"]
        for value in values:
            if f"{value}_recorded" in both:
                apart = (shared[value] - shared[f"{value}_recorded"]).abs()
                found[name, value] = (len(shared), len(both) - len(shared), apart.median(), apart.max())
    return pd.DataFrame.from_dict(found, orient="index", columns=["rows", "in one alone", "median", "widest"])


def _table(path: Path) -> pd.DataFrame:
    if not path.exists():
        raise ParameterError(f"{path} is not there; run `make repro`")
    return pd.read_csv(path)


def compare(here: Path, there: Path) -> tuple[str, bool]:
    """What differs between two runs, in words, and whether all of it agrees; where no tolerance was measured, the outcomes and rows alone."""
    path, lines, agree = there / TOLERANCE, [], True
    allowed: dict[str, Any] = cells.read(path) if path.exists() else {}
    for (table, value), row in differences(here, there).iterrows():
        tolerance = allowed.get(f"{table}.{value}", 0.0 if allowed else math.inf)
        within = row.widest <= tolerance and not row["in one alone"]
        agree &= bool(within)
        known = f"{tolerance:.2g}" if allowed else "not measured"
        lines.append(
            f"{table}.csv, {value}: {row.rows:.0f} rows in both runs, {row['in one alone']:.0f} in one alone; they differ by {row.widest:.2g} "
            f"at most (median {row['median']:.2g}, tolerance {known}): {'agree' if within else 'DIFFER'}"
        )
    ours, theirs = outcomes(here), outcomes(there)
    other = [f"{' '.join(key)}: {ours.get(key)} here, {theirs.get(key)} there" for key in {**theirs, **ours} if ours.get(key) != theirs.get(key)]
    lines.append(f"{len(theirs)} outcomes: {'; '.join(other) or 'all the same'}")
    return "\n".join(lines), agree and not other


@one_sentence()
def main() -> None:
    """The command line; 1 where the runs differ."""
    parser = argparse.ArgumentParser(prog="python -m ctp_lib.results.recorded", description="Keep a run, or compare it with a kept one.")
    parser.add_argument("what", choices=("keep", "compare"))
    parser.add_argument("name", nargs="?", help="of the folder under results/recorded; the study's own unless said")
    parser.add_argument("--tolerate", action="store_true", help="state the differences as the recorded run's tolerance")
    asked, settings = parser.parse_args(), study.load()
    name, here = asked.name or settings.study.name, paths.results(settings)
    there = paths.recorded(settings, name)
    if asked.what == "keep":
        print(keep(settings, name).relative_to(settings.root))
        return
    if asked.tolerate:
        widest = {f"{table}.{value}": row.widest for (table, value), row in differences(here, there).iterrows()}
        tables.write_text(json.dumps(widest, indent=1), there / TOLERANCE)
    said, agree = compare(here, there)
    print(said)
    sys.exit(not agree)


if __name__ == "__main__":
    main()
