"""A run that is kept, and a run beside it: what agrees and what differs, by hand."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pandas as pd
import pytest
import yaml
from conftest import ROOT

from ctp_lib.results import recorded
from ctp_lib.settings import paths, study
from ctp_lib.settings.spec import ParameterError


@pytest.fixture
def project(tmp_path):
    """A folder with settings, the tables and the ledger of a run, and a figure."""
    settings = replace(study.load(ROOT / "params.yaml"), root=tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    write(settings)
    paths.figures(settings, "reference").mkdir(parents=True)
    (paths.figures(settings, "reference") / "1.svg").write_text("<svg/>")
    return settings


def write(settings, nll: float = 2.0, outcome: str = "undecided", levels=("full", "75%")) -> None:
    folder = paths.results(settings)
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        {"model": "reference", "level": level, "method": "none", "seed": None, "nll": nll, "ppl": 7.0, "kl": 0.1}
        for level in levels
    ]
    pd.DataFrame(rows).to_csv(folder / "perplexity.csv", index=False)
    pd.DataFrame([{"model": "reference", "task": "t", "value": 0.5, "stderr": 0.1}]).to_csv(folder / "tasks.csv", index=False)
    claims = [{"model": "reference", "claim": "C1", "outcome": outcome}]
    (folder / "claims.json").write_text(json.dumps(claims))


def beside(settings) -> tuple[str, bool]:
    return recorded.compare(paths.results(settings), paths.recorded(settings, "mine"))


def test_what_is_kept_lies_beside_what_runs_next(project):
    assert recorded.keep(project, "mine") == project.root / "results" / "recorded" / "mine"
    assert (project.root / "figures" / "recorded" / "mine" / "reference" / "1.svg").exists()
    about = json.loads((project.root / "results/recorded/mine/about.json").read_text())
    assert about["commit"] == "unknown" and len(about["date"]) == 10
    (paths.results(project) / "claims.json").unlink()
    with pytest.raises(ParameterError, match=r"claims.json is not there; run `make repro`"):
        recorded.keep(project, "again")


def test_two_runs_agree_within_the_tolerance_that_the_recorded_one_states(project):
    recorded.keep(project, "mine")
    said, agree = beside(project)
    assert agree and "perplexity.csv, nll: 2 rows in both runs" in said and "1 outcomes: all the same" in said
    write(project, nll=2.01)
    said, agree = beside(project)
    assert agree and "tolerance not measured" in said, "then outcomes and rows alone are compared"
    (paths.recorded(project, "mine") / recorded.TOLERANCE).write_text(json.dumps({"perplexity.nll": 0.011}))
    assert beside(project)[1]
    write(project, nll=2.02)
    said, agree = beside(project)
    assert not agree and "they differ by 0.02 at most (median 0.02, tolerance 0.011): DIFFER" in said


def test_another_outcome_or_another_row_is_said(project):
    recorded.keep(project, "mine")
    write(project, outcome="supported")
    said, agree = beside(project)
    assert not agree and "reference C1: supported here, undecided there" in said
    write(project, levels=("full", "75%", "2bit"))
    said, agree = beside(project)
    assert not agree and "2 rows in both runs, 1 in one alone" in said


def test_every_run_that_was_kept_opens():
    kept = sorted((ROOT / "results" / "recorded").glob("*/about.json"))
    assert kept
    for path in kept:
        raw = yaml.safe_load((path.parent / "params.yaml").read_text())  # an older run may lack sections that are asked for today
        profile, table = raw["profiles"][raw["study"]], pd.read_csv(path.parent / "perplexity.csv")
        levels = {
            *profile["levels"],
            *profile["comparison"].get("compressors", []),
            *profile.get("knowledge", {}).get("levels", []),
        }
        assert set(table.level) == set(map(str, levels)) and recorded.outcomes(path.parent)


def test_the_default_run_that_was_kept_has_todays_parameters():
    settings = study.load(ROOT / "results" / "recorded" / "embedded" / "params.yaml")
    table = pd.read_csv(ROOT / "results" / "recorded" / "embedded" / "perplexity.csv")
    assert set(table.level) == set(map(str, settings.compressed))
