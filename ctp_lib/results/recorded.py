"""Runs that are kept: all that a study made but weights and text, with its settings, machine and date.

``python -m ctp_lib.results.recorded`` keeps the present study's under ``results/recorded/<study>`` and ``figures/recorded/<study>``, which
are committed; what a run of one's own makes lies beside them, out of git.
"""

import argparse
import datetime
import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ctp_lib.results.provenance import provenance
from ctp_lib.settings import paths, study
from ctp_lib.settings.spec import ParameterError
from ctp_lib.settings.study import Study


@dataclass(frozen=True)
class Run:
    """``settings`` are its study, ``about`` says where and when it ran; ``perplexity``, ``tasks`` and ``claims`` are its tables, of the
    first model of the study alone.
    """

    settings: Study
    about: dict[str, Any]
    perplexity: pd.DataFrame
    tasks: pd.DataFrame
    claims: pd.DataFrame


def read(settings: Study, folder: Path, about: dict[str, Any]) -> Run:
    """The run of ``settings`` whose tables lie in ``folder``. Raises :class:`ParameterError` when one is missing."""
    model, found = settings.study.models[0], {}
    for name in ("perplexity", "tasks", "claims"):
        path = folder / f"{name}.csv"
        if not path.exists():
            raise ParameterError(f"{path} is not there; run `make repro`")
        table = pd.read_csv(path)
        found[name] = table[table.model == model]
    return Run(settings, about, **found)


def kept(settings: Study, name: str) -> Run:
    """A run that was kept as ``name``. Raises :class:`ParameterError` when there is none."""
    folder = paths.recorded(settings, name)
    if not (folder / "about.json").exists():
        raise ParameterError(f"no run was recorded as {name!r}; there are {', '.join(names(settings)) or 'none'}")
    return read(study.load(folder / "params.yaml"), folder, json.loads((folder / "about.json").read_text(encoding="utf-8")))


def names(settings: Study) -> list[str]:
    """The runs that were kept."""
    return sorted(path.parent.name for path in paths.recorded(settings, "").glob("*/about.json"))


def keep(settings: Study, name: str) -> Path:
    """Copy the present run to ``results/recorded/NAME`` and ``figures/recorded/NAME``, in the place of an older one of that name."""
    read(settings, paths.results(settings), {})
    folder, figures = paths.recorded(settings, name), settings.root / "figures" / "recorded" / name
    shutil.copytree(settings.root / "figures" / settings.study.name, _emptied(figures), dirs_exist_ok=True)
    shutil.copytree(paths.results(settings), _emptied(folder), dirs_exist_ok=True)
    shutil.copy(settings.root / "params.yaml", folder)
    about = {"date": datetime.date.today().isoformat(), **provenance(settings.root)}
    (folder / "about.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    return folder


def _emptied(folder: Path) -> Path:
    paths.remove(folder)
    folder.mkdir(parents=True)
    return folder


def main() -> None:
    """The command line; one sentence on stderr when it cannot be done."""
    parser = argparse.ArgumentParser(prog="python -m ctp_lib.results.recorded", description="Keep what the last run made.")
    parser.add_argument("name", nargs="?", help="of the folder under results/recorded; the study's own unless said")
    asked = parser.parse_args()
    try:
        settings = study.load()
        print(keep(settings, asked.name or settings.study.name).relative_to(settings.root))
    except ParameterError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
