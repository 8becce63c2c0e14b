"""The house: the graph names what each stage reads, notebooks match their sources, bad calls stop before work."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import jupytext
import pytest
import yaml
from conftest import ROOT

from ctp_lib import progress
from ctp_lib.run import cell as pipeline
from ctp_lib.settings import study
from ctp_lib.settings.spec import ParameterError

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.py"))
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


def modules(path: Path) -> set[Path]:
    """The modules of ``ctp_lib`` that a file imports, and those that they import."""
    found: set[Path] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("ctp_lib"):
            base = ROOT.joinpath(*node.module.split("."))
            candidates = [base.with_suffix(".py"), *(base / f"{name.name}.py" for name in node.names)]
            found |= {candidate for candidate in candidates if candidate.exists()}
    return found | {deeper for module in found for deeper in modules(module)}


@pytest.mark.parametrize("name", [name for name, stage in STAGES.items() if "notebooks/" in stage["cmd"] and "deps" in stage])
def test_a_stage_depends_on_the_modules_that_its_notebook_uses(name):
    stage = STAGES[name]
    notebook = next(dep for dep in stage["deps"] if dep.startswith("notebooks/"))
    listed = [ROOT / dep for dep in stage["deps"]]
    for module in modules(ROOT / notebook):
        assert any(module == dep or dep in module.parents for dep in listed), f"{name} does not name {module.relative_to(ROOT)}"


@pytest.mark.parametrize("name", ["compress", "soft_prompt"])
def test_a_stage_depends_on_its_section_the_seed_and_the_lock(name):
    params, section = STAGES[name]["params"], {"compress": "compression"}.get(name, name)
    assert {"seed", f"study.{section}", "study.evaluation", "study.corpora", "models.${item.model}"} <= set(params)
    assert "requirements.txt" in STAGES[name]["deps"]


@pytest.mark.parametrize("source", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_match_their_sources(source):
    notebook = jupytext.read(source.with_suffix(".ipynb"))
    assert [cell.source for cell in notebook.cells] == [cell.source for cell in jupytext.read(source).cells]
    assert all(not cell.get("outputs") for cell in notebook.cells)


@pytest.mark.parametrize("source", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_open_with_a_claim_and_hold_plain_parameters(source):
    notebook = jupytext.read(source)
    assert notebook.cells[0].cell_type == "markdown" and notebook.cells[0].source.startswith("# ")
    if any("parameters" in cell.metadata.get("tags", []) for cell in notebook.cells):
        assert "parameters" in notebook.cells[1].metadata["tags"]
    pipeline.check_parameters({}, pipeline.parameter_cell(notebook), study.load(ROOT / "params.yaml"))


BAD = [
    (["notebooks/02_compression.py", "-p", "level", "5 bits"], "level '5 bits' is not a level"),
    (["notebooks/02_compression.py", "-p", "levle", "4bit"], "levle is not a parameter of this notebook; it has model, level"),
    (["notebooks/02_compression.py", "-p", "model", "refrence"], "model 'refrence' is unknown"),
    (["notebooks/99_none.py"], "notebooks/99_none.py is not there; the notebooks are 00_reference_model.py"),
]


@pytest.mark.parametrize(("arguments", "sentence"), BAD, ids=[sentence[:30] for _, sentence in BAD])
def test_a_bad_call_stops_with_one_sentence(arguments, sentence, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(pipeline, "_execute", lambda *_: pytest.fail("work began"))
    assert pipeline.main(arguments) == 1
    said = capsys.readouterr().err.strip()
    assert sentence in said and "\n" not in said


def test_a_value_of_the_wrong_type_is_refused():
    settings = study.load(ROOT / "params.yaml")
    assert pipeline.check_parameters({"n": "7"}, {"n": 3}, settings) == {"n": 7}
    with pytest.raises(ParameterError, match="n is 'many'; allowed is a value like 3"):
        pipeline.check_parameters({"n": "many"}, {"n": 3}, settings)


def test_the_runner_starts_without_torch():
    code = "import sys, ctp_lib.pipeline; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_lock_is_said_once():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert "-r requirements.txt" in environment["dependencies"][-1]["pip"]
    pins = [line.split("==")[0].lower() for line in (ROOT / "requirements.txt").read_text().splitlines() if "==" in line]
    assert len(pins) == len(set(pins)) and "+cpu" not in (ROOT / "requirements.txt").read_text()


def test_stages_are_numbered_as_they_go_by():
    lines = [
        "Stage 'a' didn't change, skipping\n",
        "Running stage 'b':\n",
        "> python\n",
        "Stage 'b' is cached\n",
        "Running stage 'c@1':\n",
    ]
    assert [line.partition("]")[0] for line in progress.numbered(lines, 9)] == [
        "[1 of 9",
        "[2 of 9",
        "> python\n",
        "[2 of 9",
        "[3 of 9",
    ]
