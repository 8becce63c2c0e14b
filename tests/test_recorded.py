"""A run that is kept can be read back, and the shares it is compared by are those of its table, by hand."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pandas as pd
import pytest
from conftest import ROOT

from ctp_lib.claims import beside_the_paper
from ctp_lib.results import recorded
from ctp_lib.settings import paths, study
from ctp_lib.settings.spec import ParameterError


@pytest.fixture
def project(tmp_path):
    """A folder with settings, the tables of a run of two levels and two corpora, and a figure."""
    settings = replace(study.load(ROOT / "params.yaml"), root=tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    broad, other, *_ = settings.corpora.sources
    rows = []
    for level, corpus, none, prompted in (
        ("full", broad, 10.0, (9.0, 9.2)),
        ("full", other, 20.0, (21.0, 21.0)),
        ("3bit", broad, 10.05, (9.0, 9.0)),  # costs half a per cent: nothing to give back
        ("3bit", other, 20.0, (21.0, 21.0)),
        ("75%", broad, 20.0, (14.0, 16.0)),
        ("75%", other, 40.0, (45.0, 45.0)),
    ):
        rows.append({"level": level, "method": "none", "evaluated_on": corpus, "ppl": none, "nll": none / 10})
        prompt = {"method": "soft_prompt", "prompt_kind": "learned", "trained_on": broad, "evaluated_on": corpus}
        rows += [
            {"level": level, "trained_at_level": level, "ppl": ppl, "nll": ppl / 10, "seed": n, **prompt}
            for n, ppl in enumerate(prompted)
        ]
        if level != "full":
            rows.append({"level": level, "trained_at_level": "full", "ppl": 1.0, **prompt})
        rows.append({"level": level, "trained_at_level": level, "ppl": 1.0, "point": "100 vectors", **prompt})
    for corpus in list(settings.corpora.sources)[2:]:
        rows += [{"level": level, "method": "none", "evaluated_on": corpus, "ppl": 5.0} for level in map(str, settings.levels)]
    table = pd.DataFrame(rows)
    missing = [
        {"level": level, "method": "none", "evaluated_on": corpus, "ppl": 10.0}
        for level in map(str, settings.levels)
        for corpus in (broad, other)
        if level not in ("full", "3bit", "75%")
    ]
    table = pd.concat([table, pd.DataFrame(missing)]).assign(model="reference")
    folder = paths.results(settings)
    folder.mkdir(parents=True)
    table.to_csv(folder / "perplexity.csv", index=False)
    for name in ("tasks", "cost", "curve", "claims"):
        pd.DataFrame([{"model": "reference", "claim": "C1", "verdict": "mixed"}]).to_csv(folder / f"{name}.csv", index=False)
    paths.figures(settings, "reference").mkdir(parents=True)
    (paths.figures(settings, "reference") / "1.svg").write_text("<svg/>")
    return settings


def test_shares_by_hand(project):
    broad, other, *_ = project.corpora.sources
    shares = beside_the_paper.shares(recorded.read(project, paths.results(project), {}))
    assert list(shares.index) == ["75%"]
    assert shares[broad]["75%"] == pytest.approx((20 - 15) / (20 - 10)) and shares[other]["75%"] == pytest.approx(-5 / 20)


def test_what_prompts_change_where_they_were_learned_by_hand(project):
    broad = next(iter(project.corpora.sources))
    found = beside_the_paper.direct_prompts(recorded.read(project, paths.results(project), {}))
    assert list(found.index) == [(broad, "full"), (broad, "3bit"), (broad, "75%")]
    assert found.gain.tolist() == pytest.approx([-0.09, -0.105, -0.5])
    assert found.net.tolist() == pytest.approx([0.0, -0.015, -0.41])


def test_what_is_kept_is_read_back(project):
    recorded.keep(project, "mine")
    assert (project.root / "figures" / "recorded" / "mine" / "reference" / "1.svg").exists() and recorded.names(project) == ["mine"]
    run = recorded.kept(project, "mine")
    assert run.about["commit"] == "unknown" and len(run.about["date"]) == 10
    assert run.perplexity.equals(recorded.read(project, paths.results(project), {}).perplexity)
    with pytest.raises(ParameterError, match="no run was recorded as 'yours'; there are mine"):
        recorded.kept(project, "yours")
    (paths.results(project) / "tasks.csv").unlink()
    with pytest.raises(ParameterError, match=r"tasks.csv is not there; run `make repro`"):
        recorded.keep(project, "again")


def test_every_run_that_was_kept_opens():
    settings = study.load(ROOT / "params.yaml")
    assert recorded.names(settings)
    for name in recorded.names(settings):
        run = recorded.kept(settings, name)
        assert len(run.perplexity) and set(run.perplexity.level) == set(map(str, run.settings.levels))


def test_the_papers_shares_by_hand():
    learned, transferred = beside_the_paper.published_shares()
    assert learned["printed"] == {"3bit": pytest.approx((10.74 - 7.48) / (10.74 - 7.59))}
    assert transferred["printed"]["4bit"] == pytest.approx((6.92 - 6.26) / (6.92 - 6.33))
    assert transferred["undone"]["3bit"] == pytest.approx((9.45 - 6.90 ** (1123 / 1023)) / (9.45 - 6.33))
