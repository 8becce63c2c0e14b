"""Cells, tables and figures."""

from __future__ import annotations

import math
import subprocess
import time
from dataclasses import replace

import pandas as pd
import pytest
import torch
from conftest import ROOT
from test_estimate import row

from ctp_lib.claims import c2_c3_recovery, style
from ctp_lib.results import cells, curves, provenance, tables
from ctp_lib.settings import paths, study
from ctp_lib.settings.levels import Level


def test_numbers_and_what_they_cost_lie_apart(tmp_path):
    settings = replace(study.load(ROOT / "params.yaml"), root=tmp_path)
    goal = paths.score(settings, "reference", settings.levels[1], "none")
    cell = {"model": "reference", "level": "4bit"}
    cells.write(goal, cell, perplexity=[{"ppl": 2.0}])
    before = goal.read_bytes()
    cells.write_cost(settings, goal, cell, [provenance.Cost("evaluate", tokens=10, seconds=2.0)])
    assert goal.read_bytes() == before and b"seconds" not in before and b"commit" not in before
    cost = cells.read(paths.cost_of(settings, goal))
    assert cost["cell"] == cell and cost["cost"][0]["tokens_per_second"] == 5.0
    assert cost["provenance"]["threads"] >= 1 and set(cost["provenance"]["packages"]) == set(provenance.RECORDED_PACKAGES)


def test_provenance_says_unknown_where_git_says_nothing(tmp_path):
    found = provenance.provenance(tmp_path)
    assert found["commit"] == found["dirty"] == "unknown"
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / "params.yaml").write_text("seed: 0")
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "-C", tmp_path, "add", "."], check=True)
    subprocess.run(["git", "-C", tmp_path, *identity, "commit", "-qm", "first"], check=True)
    assert provenance.provenance(tmp_path)["dirty"] is False and len(provenance.provenance(tmp_path)["commit"]) == 40
    (tmp_path / "params.yaml").write_text("seed: 1")
    assert provenance.provenance(tmp_path)["dirty"] is True


def test_a_cell_made_by_something_else_is_not_taken(tmp_path):
    made = cells.write(tmp_path / "a.json", {"model": "m"}, identity={"code": {"a": 1}, "levels": ("x",)}, perplexity=[])
    assert cells.known(tmp_path / "a.json", {"code": {"a": 1}, "levels": ("x",)}) == made
    assert cells.known(tmp_path / "a.json", {"code": {"a": 2}, "levels": ("x",)}) is None
    assert cells.known(tmp_path / "b.json", {}) is None


def test_missing_and_torn_cells_are_said_so(tmp_path):
    with pytest.raises(ValueError, match="run `make repro`"):
        cells.read(tmp_path / "a.json")
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(ValueError, match="is damaged"):
        cells.read(tmp_path / "a.json")


def test_a_table_joins_cells_and_rows(tmp_path):
    """Of the study's own models, levels and methods; what an earlier study left there is not in it."""
    settings = replace(study.load(ROOT / "params.yaml"), root=tmp_path)
    for level, ppl in zip(settings.levels, (1, 3), strict=False):
        cell = {"model": "reference", "level": str(level)}
        cells.write(paths.score(settings, "reference", level, "none"), cell, perplexity=[{"ppl": ppl}, {"ppl": ppl + 1}])
        cells.write(paths.score(settings, "reference", level, "old_method"), cell, perplexity=[{"ppl": 99}])
    compared = [{"ppl": 5}, {"ppl": 1, "reused": True}]
    for method in ("lora", "old_method"):
        cell = {"model": "reference", "level": "full", "method": method}
        cells.write(paths.comparison(settings, "reference", Level(), method), cell, perplexity=compared)
    table = tables.collect(settings, "perplexity")
    assert table.ppl.tolist() == [1, 2, 3, 4, 5] and table.level.tolist() == ["full", "full", "4bit", "4bit", "full"]
    assert list(table.columns) == tables.COLUMNS["perplexity"] and table.seed.isna().all()


def test_curves_and_what_learning_cost_are_those_of_the_study(tmp_path):
    settings = replace(study.load(ROOT / "params.yaml"), root=tmp_path)
    for level in settings.levels:
        for seed in settings.soft_prompt.seeds:
            goal = paths.learned(settings, "reference", level, "soft_prompt", seed)
            goal.mkdir(parents=True)
            halfway = 1.02 if str(level) == "2bit" else 1.005
            curve = [2.0 + seed, halfway + seed, 1.0 + seed]
            run = {"curve": [{"step": n, "tokens": n, "training_loss": None, "validation_nll": nll} for n, nll in enumerate(curve)]}
            cells.write(goal / paths.LEARNED, {}, identity={}, run=run)
            cell = {"model": "reference", "level": str(level), "method": "soft_prompt"}
            cells.write_cost(settings, goal, cell, [provenance.Cost("train", seconds=1.0 + seed, seed=seed)])
    curve = tables.collect(settings, "curve")
    assert len(curve) == 81 and curve[(curve.level == "62.5%") & (curve.step == 0)].validation_nll.tolist() == [2.0, 3.0, 4.0]
    assert curves.still_learning(settings, "reference", "soft_prompt", ["4bit", "2bit", "75%"]) == ["2bit"]
    costs = tables.learning_costs(settings, "reference", "soft_prompt")
    assert len(costs) == 27 == len(tables.collect(settings, "cost")) and costs.groupby("level").seconds.sum().unique() == [6.0]


def test_cost_is_measured_and_gives_a_rate():
    with provenance.measured("work", tokens=100) as cost:
        held = bytearray(50_000_000)
    assert cost.seconds > 0 and cost.peak_memory_bytes > len(held)
    assert cost.record()["tokens_per_second"] == pytest.approx(100 / cost.seconds)


@pytest.mark.parametrize("gpu", [True, False])
def test_the_clock_waits_for_what_is_left_to_a_gpu_of_any_maker(monkeypatch, gpu):
    seen = []
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.accelerator, "synchronize", lambda: seen.append("wait"))
    seconds, found = provenance.timed(lambda: seen.append("work") or time.sleep(0.02) or 7)
    assert seen == (["wait", "work", "wait"] if gpu else ["work"]) and found == 7 and seconds >= 0.02


def cell(level: str, *rows: dict, **more) -> dict:
    return {"cell": {"level": level}, "perplexity": list(rows), **more}


REACHED = {"full": {"bits_per_weight": 16.0}, "4bit": {"bits_per_weight": 4.5}}


def test_the_recovery_table():
    prompted = row("soft_prompt", 1.4, 1.6), row("soft_prompt", 1.7, 1.7, seed=1)
    made = [
        cell("full", row("none", 1.0, 1.0)), cell("4bit", row("none", 2.0, 2.0)),
        cell("full", row("soft_prompt", 0.9, 0.9)), cell("4bit", *prompted),
    ]  # fmt: skip
    table = c2_c3_recovery.table(made, REACHED, evaluated_on="broad")
    found, mean = table.loc["4bit"], (math.exp(1.5) + math.exp(1.7)) / 2
    assert found.bits_per_weight == 4.5
    assert (found.seeds_low, found.seeds_high) == pytest.approx((math.exp(1.5), math.exp(1.7)))
    assert found.recovered == pytest.approx((math.e**2 - mean) / (math.e**2 - math.e))
    means = [found[name].mean for name in ("cost", "gain", "above_full", "nearer")]
    assert means == pytest.approx([1.0, 0.4, -0.6, 0.2])  # the divergence of these rows is half their NLL
    assert list(table.index) == ["full", "4bit"]


def test_any_method_has_its_table_and_its_points():
    made = [cell(level, row(method, nll, nll)) for level, method, nll in (
        ("full", "none", 1.0), ("4bit", "none", 2.0), ("full", "lora", 1.0), ("4bit", "lora", 1.5), ("4bit", "soft_prompt", 1.8),
    )]  # fmt: skip
    table = c2_c3_recovery.table(made, REACHED, evaluated_on="broad", method="lora")
    assert table.gain["4bit"].mean == pytest.approx(0.5)
    figure = c2_c3_recovery.perplexity_by_level(pd.DataFrame(cells.rows(made)), evaluated_on="broad")
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["compressed", "compressed + LoRA", "compressed + soft prompt", "uncompressed"]
    assert figure.axes[0].get_title() == "Quantised (GPTQ)"


def test_a_model_that_is_destroyed_is_an_arrow_at_the_ceiling():
    made = [cell(level, row("none", nll, nll)) for level, nll in (("full", 1.0), ("4bit", 2.0), ("2bit", 16.0))]
    figure = c2_c3_recovery.perplexity_by_level(pd.DataFrame(cells.rows(made)), evaluated_on="broad")
    assert "8.9 million" in [text.get_text() for text in figure.axes[0].texts]
    low, high = figure.axes[0].get_ylim()
    assert high < 100 * math.e and sum(low < tick < high for tick in figure.axes[0].get_yticks()) < 12


def test_scores_of_different_text_are_not_compared():
    made = [cell("full", row("none", 1.0, 1.0)), cell("full", row("soft_prompt", 1.0, 1.0, text="other"))]
    with pytest.raises(ValueError, match="other text was scored"):
        c2_c3_recovery.table(made, {"full": REACHED["full"]}, evaluated_on="broad")


def perplexities() -> pd.DataFrame:
    rows = [
        {"level": level, "method": method, "evaluated_on": "broad", "ppl": ppl}
        for level, none, prompted in (
            ("full", 10, 9.9),
            ("4bit", 11, 10.5),
            ("2bit", 90, 30),
            ("50%", 12, 11),
            ("50%+4bit", 13, 12),
        )
        for method, ppl in (("none", none), ("soft_prompt", prompted))
    ]
    return pd.DataFrame(rows)


def test_equal_tables_give_equal_figures_and_say_the_uncompressed_value(tmp_path):
    for name in ("one", "two"):
        style.save(c2_c3_recovery.perplexity_by_level(perplexities(), evaluated_on="broad"), tmp_path / name, "f")
    for suffix in ("svg", "png"):
        assert (tmp_path / "one" / f"f.{suffix}").read_bytes() == (tmp_path / "two" / f"f.{suffix}").read_bytes()
    figure = c2_c3_recovery.perplexity_by_level(perplexities(), evaluated_on="broad")
    for axis, levels in zip(figure.axes, (["4bit", "2bit"], ["50%", "50%+4bit"]), strict=False):
        assert [label.get_text() for label in axis.get_xticklabels()] == levels
        assert "10.0" in [text.get_text() for text in axis.texts]


def test_curves_have_a_panel_a_level():
    curve = pd.DataFrame(
        {
            "level": ["4bit"] * 3 + ["50%"] * 3,
            "seed": 0,
            "tokens": [0, 10, 20] * 2,
            "validation_nll": [3.0, 2.0, 2.5, 4.0, 3.5, 3.0],
        }
    )
    figure = c2_c3_recovery.curves_by_level(curve)
    assert [axis.get_title() for axis in figure.axes if axis.axison] == ["4bit", "50%"]
    kept = [axis.lines[1].get_xydata().tolist() for axis in figure.axes if axis.axison]
    assert kept == [[[0.01, 2.0]], [[0.02, 3.0]]]
