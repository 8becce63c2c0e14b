"""Runs that are kept: the tables and figures of one study, with its settings, machine and date, to lay beside another.

``python -m ctp_lib.recorded NAME`` keeps what the last `dvc repro` made, under ``results/recorded/NAME``. Weights and text are not kept.
"""

from __future__ import annotations

import argparse
import datetime
import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ctp_lib import places, published, results, study
from ctp_lib.claims import recovered_share
from ctp_lib.study import Level, ParameterError, Study

TABLES = ("perplexity", "tasks", "cost", "curve", "claims")


@dataclass(frozen=True)
class Run:
    """``settings`` are its study, ``about`` says where and when it ran; ``perplexity``, ``tasks`` and ``claims`` are as in ``results/``,
    of the first model of the study alone.
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
            raise ParameterError(f"{path} is not there; run `dvc repro`")
        table = pd.read_csv(path)
        found[name] = table[table.model == model]
    return Run(settings, about, **found)


def kept(settings: Study, name: str) -> Run:
    """A run that was kept as ``name``. Raises :class:`ParameterError` when there is none."""
    folder = places.recorded_folder(settings, name)
    if not (folder / "about.json").exists():
        raise ParameterError(f"no run was recorded as {name!r}; there are {', '.join(names(settings)) or 'none'}")
    return read(study.load(folder / "params.yaml"), folder, json.loads((folder / "about.json").read_text(encoding="utf-8")))


def names(settings: Study) -> list[str]:
    """The runs that were kept."""
    return sorted(path.parent.name for path in places.recorded_folder(settings, "").glob("*/about.json"))


def keep(settings: Study, name: str) -> Path:
    """Copy the present run to ``results/recorded/NAME``, in the place of an older one of that name but for files this does not write."""
    source, model, folder = settings.root / "results", settings.study.models[0], places.recorded_folder(settings, name)
    read(settings, source, {})
    cell = results.read_cell(places.cell_path(settings, "compression", model, settings.levels[0]))
    folder.mkdir(parents=True, exist_ok=True)
    for table in TABLES:
        shutil.copy(source / f"{table}.csv", folder)
    shutil.copy(settings.root / "params.yaml", folder)
    shutil.copytree(places.figures_folder(settings, model), folder / "figures", dirs_exist_ok=True)
    about = {"date": datetime.date.today().isoformat(), **cell["provenance"]}
    (folder / "about.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    return folder


def shares(run: Run) -> pd.DataFrame:
    """The share of the lost perplexity that each level's own prompt of the broad corpus gives back: levels x corpora.

    Means over seeds. NaN where the level costs less than one per cent, of which there is nothing to give back.
    """
    table, own = run.perplexity, _at_their_own_level(run)
    own = own[own.trained_on == run.settings.soft_prompt.corpus].groupby(["level", "evaluated_on"]).ppl.mean()
    none = table[table.method == "none"].groupby(["level", "evaluated_on"]).ppl.first()
    found: dict[str, dict[str, float]] = {}
    for level in map(str, run.settings.levels):
        for corpus in run.settings.corpora.sources:
            before, full = none[level, corpus], none[str(Level()), corpus]
            if before > 1.01 * full:
                found.setdefault(corpus, {})[level] = recovered_share(before, own[level, corpus], full)
    return pd.DataFrame(found).reindex(map(str, run.settings.levels)).dropna(how="all")


def direct_prompts(run: Run) -> pd.DataFrame:
    """What prompts change on the corpus they were learned on: a row a corpus and level with ``gain`` (NLL with less NLL without, nats a
    token; mean over seeds) and ``net``, the gain less that on the uncompressed model.
    """
    table, own = run.perplexity, _at_their_own_level(run)
    own = own[own.trained_on == own.evaluated_on].groupby(["trained_on", "level"], sort=False).nll.mean()
    none = table[table.method == "none"].groupby(["evaluated_on", "level"]).nll.first().rename_axis(own.index.names)
    gain = (own - none).dropna().reindex(own.index)
    net = gain - gain.xs(str(Level()), level="level").reindex(gain.index, level="trained_on")
    return pd.DataFrame({"gain": gain, "net": net})


def _at_their_own_level(run: Run) -> pd.DataFrame:
    """The rows of learned prompts used at the level they were learned at; those of the comparison with LoRA have a ``point`` and are none."""
    table = run.perplexity
    learned = (table.method == "soft_prompt") & (table.prompt_kind == "learned") & table.point.isna()
    return table[learned & (table.trained_at_level == table.level)]


def published_shares() -> tuple[dict[str, dict[str, float]], dict[str, dict[str, float]]]:
    """What LLaMA-7B's prompt gives back by level: on C4, where it was learned, and on WikiText-2.

    *printed* takes the paper's figures as they stand, *undone* as :func:`ctp_lib.published.exact` reads them.
    """
    transfer, wikitext = (
        published.LLAMA_7B_3BIT_TRANSFER,
        {level: found["wikitext2"] for level, found in published.LLAMA_7B_QUANTISED.items()},
    )
    c4 = {"3bit": (transfer["none"]["c4"], transfer["c4"]["c4"], transfer["full"]["c4"])}
    full = wikitext.pop("full")["none"]
    elsewhere = {level: (found["none"], found["transferred"], full) for level, found in wikitext.items()}
    return tuple(
        {
            "printed": {level: recovered_share(*row) for level, row in rows.items()},
            "undone": {
                level: recovered_share(none, published.exact(prompted), full) for level, (none, prompted, full) in rows.items()
            },
        }
        for rows in (c4, elsewhere)
    )


def main() -> None:
    """The command line; one sentence on stderr when it cannot be done."""
    parser = argparse.ArgumentParser(prog="python -m ctp_lib.recorded", description="Keep the tables and figures of the last run.")
    parser.add_argument("name", help="of the folder under results/recorded")
    asked = parser.parse_args()
    try:
        settings = study.load()
        print(keep(settings, asked.name).relative_to(settings.root))
    except ParameterError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
