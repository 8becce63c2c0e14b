"""Runs that are kept: all that a study made but weights and text, with its settings, machine and date.

``python -m ctp_lib.results.recorded`` keeps the present study's under ``results/recorded/<study>`` and ``figures/recorded/<study>``, which
are committed; what a run of one's own makes lies beside them, out of git.
"""

import argparse
import datetime
import json
import shutil
import sys
from pathlib import Path

from ctp_lib.results import compare
from ctp_lib.results.provenance import provenance
from ctp_lib.settings import paths, study
from ctp_lib.settings.spec import ParameterError
from ctp_lib.settings.study import Study


def keep(settings: Study, name: str) -> Path:
    """Copy the present run to ``results/recorded/NAME`` and ``figures/recorded/NAME``, in the place of an older one of that name.

    Raises :class:`ParameterError` when it is not complete.
    """
    compare.claims(paths.results(settings))
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
