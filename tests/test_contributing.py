"""The examples of CONTRIBUTING.md do what it says."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
import small_study
import torch
import yaml
from conftest import ROOT

from ctp_lib.claims import c2_c3_recovery
from ctp_lib.compression import base, reached, saved
from ctp_lib.model import loading
from ctp_lib.recovery import asking, scores
from ctp_lib.recovery.bench import Bench
from ctp_lib.settings import study
from ctp_lib.settings.levels import Level

pytestmark = pytest.mark.medium
BLOCKS = re.findall(r"(?s)```(\w+)\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
METHODS, PROFILE, TASK, ITEM, CLAIM = (text for _, text in BLOCKS)
HALF = Level.parse("columns:50%")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("contributed")
    (folder / "my_methods.py").write_text(METHODS)
    levels, methods = ["full", "75%", str(HALF)], yaml.safe_load(PROFILE.replace("*embedded", "{}"))["profiles"]["mine"]["methods"]
    return replace(small_study.make(folder, levels=levels, methods=methods), plugins=("my_methods.py",))


def test_the_profile_is_one(tmp_path):
    (tmp_path / "my_methods.py").write_text(METHODS)
    ours, (plugins, profile) = (ROOT / "params.yaml").read_text(encoding="utf-8"), PROFILE.split("profiles:\n")
    (tmp_path / "params.yaml").write_text(plugins + ours.replace("\nstudy: embedded", f"\n{profile}\nstudy: mine"))
    found = study.load(tmp_path / "params.yaml")
    assert found.plugins == ("my_methods.py",) and HALF in found.levels and list(found.methods) == ["soft_prompt", "rescale"]


def test_the_weakest_columns_go(project):
    for name, module in loading.compressible(saved.load(project, "own", HALF)).items():
        before = loading.compressible(loading.load_model(project.model("own")))[name].weight
        gone = (module.weight == 0).all(0)
        assert gone.sum() == round(0.5 * gone.numel()) and before.norm(dim=0)[gone].max() <= before.norm(dim=0)[~gone].min()
    with pytest.raises(ValueError, match="cannot do it"):
        base.method_for(Level.parse("columns:2:4"), base.registry(project))


def test_the_scale_is_the_best_one_and_comes_off(project):
    bench = Bench(project, "own", Level.parse("75%"))
    before = {name: weight.clone() for name, weight in bench.network.state_dict().items()}
    dense = loading.compressible(loading.load_model(project.model("own")))
    with bench.learned("rescale", 0).on(bench.network):
        for name, module in loading.compressible(bench.network).items():
            error = (module.weight - dense[name].weight).double()
            assert (error * module.weight).sum().abs() < 1e-4 * module.weight.double().square().sum()  # orthogonal: least squares
    assert all(torch.equal(weight, before[name]) for name, weight in bench.network.state_dict().items())


def test_the_task_is_asked(project):
    folder = project.root / "my_tasks"
    folder.mkdir()
    lines = [json.loads(ITEM) | {"label": number % 2} for number in range(8)]
    (folder / "colours.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "colours.yaml").write_text(TASK.replace("my_tasks/", f"{folder}/"))
    settings = replace(project, tasks=replace(project.tasks, names=("colours",), folder="my_tasks"))
    bench = Bench(settings, "own", Level())
    (row,) = asking.ask(bench, bench.learned("none", 0))
    assert (row["task"], row["n"], row["value"]) == ("colours", 8, 0.5)


def test_the_claim_is_judged(project):
    space: dict = {}
    exec(CLAIM, space)
    levels = {str(level): reached.obtain(project, "own", level)["reached"] for level in project.levels}
    table = c2_c3_recovery.table(scores.of_study(project, "own"), levels, evaluated_on="broad")
    found = space["verdict"](table, project.margins)
    (part,) = found.parts
    effects = {level: row.gain.mean - row.cost.mean / 2 for level, row in table.drop(index="full").iterrows()}
    assert {cell.name: pytest.approx(cell.estimate) for cell in part.cells} == {
        level: effect for level, effect in effects.items() if level not in part.silent
    }
