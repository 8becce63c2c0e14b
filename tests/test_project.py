"""The house: floors that rest on each other, stages that name what their notebooks read, notebooks like their sources, bad calls that stop."""

from __future__ import annotations

import ast
import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jupytext
import pytest
import sections
import yaml
from conftest import ROOT

from ctp_lib.recovery import base as recovery
from ctp_lib.run import cell
from ctp_lib.settings import digests, models, study
from ctp_lib.settings.spec import ParameterError

NOTEBOOKS = sorted((ROOT / "notebooks").rglob("*.py"))
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
FLOORS = re.findall(r"(?m)^\| `(\w+)` \|", (ROOT / "docs" / "house.md").read_text(encoding="utf-8"))
"""From top to bottom, as the page has them: each may use those below it."""


@pytest.mark.parametrize("path", sorted((ROOT / "ctp_lib").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT / "ctp_lib")))
def test_a_module_uses_the_floors_below_it_and_is_short(path):
    own = path.relative_to(ROOT / "ctp_lib").parts[0]
    text = path.read_text()
    assert text.count("\n") <= 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ctp_lib."):
            floor = node.module.split(".")[1]
            assert FLOORS.index(floor) >= FLOORS.index(own), f"{own} is below {floor}"
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 40, node.name
    assert ("unittest" not in text and not re.search(r"sys\.modules\[\w+\] = ", text)) or path.name == "auto_gptq_solver.py"


def notebook_stages() -> list[str]:
    found = {name: stage.get("do", stage) for name, stage in STAGES.items()}
    return [name for name, stage in found.items() if "notebooks/" in stage["cmd"]]


@pytest.mark.parametrize("name", notebook_stages())
def test_a_stage_names_the_sections_that_its_notebook_reads_and_no_more(name):
    stage = STAGES[name].get("do", STAGES[name])
    notebook = re.search(r"notebooks/\w+\.py", stage["cmd"])[0]
    named = {re.sub(r"^profiles\.\$\{graph\.study\}\.", "", param).split(".")[0] for param in stage["params"]}
    named = {{"models": "study", "levels": "study", "recipes": "soft_prompt"}.get(part, part) for part in named}
    read = sections.read_by(ROOT / notebook)
    if "study" in read and "corpora" in named - read:  # the names of the study's corpora
        named -= {"corpora"}
    own = {"methods"} if name == "learn" else set()  # a method's settings are in its digest
    assert read - own == named, f"reads {sorted(read - own - named)} unnamed; names {sorted(named - read)} unread"
    digest = "compress/" if name == "compress" else "learn/" if name == "learn" else f"notebooks/{Path(notebook).stem}.json"
    assert any(f"/digests/{digest}" in dep for dep in stage["deps"])


def test_the_graph_is_short_and_names_no_module():
    text = (ROOT / "dvc.yaml").read_text()
    assert text.count("\n") <= 480 and "ctp_lib/" not in text


@pytest.mark.parametrize("source", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_match_their_sources(source):
    notebook = jupytext.read(source.with_suffix(".ipynb"))
    assert [part.source for part in notebook.cells] == [part.source for part in jupytext.read(source).cells]
    assert all(not part.get("outputs") for part in notebook.cells)


@pytest.mark.parametrize("source", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_open_with_a_claim_and_have_short_cells(source):
    notebook = jupytext.read(source)
    assert notebook.cells[0].cell_type == "markdown" and notebook.cells[0].source.startswith("# ")
    if any("parameters" in part.metadata.get("tags", []) for part in notebook.cells):
        assert "parameters" in notebook.cells[1].metadata["tags"]
    cell.check_parameters({}, cell.parameter_cell(notebook), study.load(ROOT / "params.yaml"))
    for part in notebook.cells:
        assert part.cell_type != "code" or len([line for line in part.source.split("\n") if line.strip()]) <= 15, part.source


@pytest.mark.parametrize("source", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_cell_ends_with_what_it_wrote_into_a_file(source):
    """Jupyter would print it: thousands of lines."""
    for part in re.split(r"(?m)^# %%.*$", source.read_text(encoding="utf-8")):
        last = ast.parse(part).body[-1:]
        assert not any(isinstance(node, ast.Expr) and ast.unparse(node).startswith("cells.write") for node in last), part


METHODS = {"none", "hard_prompt", "soft_prompt", "lora"}


@pytest.mark.parametrize("path", [*NOTEBOOKS, *(ROOT / "ctp_lib" / "claims").glob("*.py")], ids=lambda path: path.stem)
def test_no_table_figure_or_notebook_spells_the_name_of_a_method(path):
    parameters = re.compile(r'(?ms)^# %% tags=\["parameters"\]\n.*?(?=^# %%)')
    tree = ast.parse(parameters.sub("", path.read_text()))
    data = {id(node) for call in ast.walk(tree) if isinstance(call, (ast.Dict, ast.Subscript)) for node in ast.walk(call)}
    spelled = [
        node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and node.value in METHODS and id(node) not in data
    ]
    assert not spelled


def test_executed_copies_are_linked_and_there():
    for source in sorted((ROOT / "notebooks").glob("[0-9]*.py")):
        link = re.search(r"\[With its tables[^]]*\]\(\.\./(\S+)\)", source.read_text())
        assert link and (ROOT / link[1]).exists(), source.name


BAD = [
    (["notebooks/02_compression.py", "-p", "level", "5 bits"], "level '5 bits' is not a level"),
    (
        ["notebooks/02_compression.py", "-p", "level", "awq:4bit"],
        "method 'awq' is unknown; the methods of compression are auto-gptq",
    ),
    (["notebooks/02_compression.py", "-p", "level", "wanda:4bit"], "level wanda:4bit: Wanda cannot do it"),
    (["notebooks/02_compression.py", "-p", "levle", "4bit"], "levle is not a parameter of this notebook; it has model, level"),
    (["notebooks/02_compression.py", "-p", "model", "refrence"], "model 'refrence' is unknown"),
    (["notebooks/99_none.py"], "notebooks/99_none.py is not there; the notebooks are 00_start_here.py, 01_corpora.py"),
]


@pytest.mark.parametrize(("arguments", "sentence"), BAD, ids=[sentence[:30] for _, sentence in BAD])
def test_a_bad_call_stops_with_one_sentence(arguments, sentence, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(cell, "_execute", lambda *_: pytest.fail("work began"))
    assert cell.main(arguments) == 1
    said = capsys.readouterr().err.strip()
    assert sentence in said and "\n" not in said


@pytest.mark.parametrize("text", ["many", "[%5", "*", "2020-13-45"])
def test_a_value_of_the_wrong_type_or_that_is_no_yaml_is_refused(text):
    settings = study.load(ROOT / "params.yaml")
    assert cell.check_parameters({"n": "7"}, {"n": 3}, settings) == {"n": 7}
    with pytest.raises(ParameterError, match=re.escape(f"n is {text!r}; allowed is a value like 3")):
        cell.check_parameters({"n": text}, {"n": 3}, settings)


def test_a_copy_of_a_long_name_fits_into_a_folder_and_is_told_from_others(monkeypatch):
    monkeypatch.chdir(ROOT)
    seen = []
    monkeypatch.setattr(cell, "_execute", lambda notebook, parameters, target, root: seen.append(target.name) or 0)
    for text in ("notes.txt", f"{'a' * 300}/one.txt", f"{'a' * 300}/two.txt"):
        assert cell.main(["notebooks/try_your_model.py", "-p", "text", text]) == 0
    assert seen[0] == "notes.txt.ipynb" and len(set(seen)) == 3
    assert max(len(f"{name}.incoming".encode()) for name in seen) <= 255, "what systems take"


def test_the_runner_and_the_digests_start_without_torch():
    code = "import sys, ctp_lib.run.cell, ctp_lib.run.digests; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_no_tracked_file_has_a_name_that_a_system_refuses():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split("\n")
    assert not [name for name in listed if re.search(r'[:%"<>|?*\\]', name)]


PLATFORMS = ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu", "aarch64-apple-darwin", "x86_64-pc-windows-msvc"]


@pytest.mark.medium
@pytest.mark.parametrize("platform", PLATFORMS)
def test_the_lock_installs_on_every_platform(platform, tmp_path):
    """uv resolves it for each, as pip would there: a wheel, or a source that every system builds."""
    around = os.environ | {
        "MACOSX_DEPLOYMENT_TARGET": "14.0",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    asked = [
        "uv", "pip", "install", "--dry-run", "--quiet", "--no-deps", "--python-version", "3.11", "--python-platform", platform,
        "--target", str(tmp_path), "-r", str(ROOT / "requirements.txt"),
    ]  # fmt: skip
    done = subprocess.run(asked, env=around, capture_output=True, text=True, check=False)
    if "error sending request" in done.stderr or "dns error" in done.stderr:
        pytest.skip("no package index can be reached")
    assert done.returncode == 0, done.stderr


def test_the_lock_is_said_once():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert "-r requirements.txt" in environment["dependencies"][-1]["pip"]
    pins = [line.split("==")[0].lower() for line in (ROOT / "requirements.txt").read_text().splitlines() if "==" in line]
    assert len(pins) == len(set(pins)) and "+cpu" not in (ROOT / "requirements.txt").read_text()


def test_every_way_of_importing_is_followed_and_the_solver_of_auto_gptq_has_its_version(tmp_path):
    (tmp_path / "mine.py").write_text("import ctp_lib.model.divergence as apart\nfrom ctp_lib.compression import grid\n")
    found = digests.code([tmp_path / "mine.py"])
    assert {"mine.py", "model/divergence.py", "model/likelihood.py", "compression/grid.py"} <= set(found["modules"])
    solver = digests.code([digests.LIBRARY / "compression" / "auto_gptq_solver.py"])
    assert "auto-gptq" in solver["packages"]


def test_the_page_of_what_goes_wrong_names_tests_that_are_there():
    named = re.findall(r"`(test_\w+)::(test_\w+)`", (ROOT / "docs" / "robustness.md").read_text())
    assert len(named) > 10
    for module, test in named:
        assert f"def {test}(" in (ROOT / "tests" / f"{module}.py").read_text(), test


def test_the_page_of_ones_own_lists_every_repair():
    table = (ROOT / "docs" / "your_own.md").read_text().partition("## Repairs and controls")[2].partition("## ")[0]
    listed = re.findall(r"`(\w+)`", "".join(line.split("|")[1] for line in table.splitlines() if line.startswith("| `")))
    assert sorted(listed) == [name for name in recovery.registry().names() if name not in ("none", "hard_prompt")]


def test_what_docstrings_name_in_the_library_is_there():
    for path in (*ROOT.glob("ctp_lib/**/*.py"), *ROOT.glob("benchmarks/*.py")):
        for named in re.findall(r":\w+:`(ctp_lib\.[\w.]+)`", path.read_text(encoding="utf-8")):
            goal = ROOT.joinpath(*named.split("."))
            owner = goal.parent.with_suffix(".py")
            inside = owner.is_file() and re.search(rf"(?m)^(def |class )?{goal.name}\b", owner.read_text(encoding="utf-8"))
            assert goal.is_dir() or goal.with_suffix(".py").is_file() or inside, f"{path.name}: {named}"


def test_the_explorer_tells_the_seconds_of_one_model_from_those_of_another(tmp_path, monkeypatch):
    """By hand; what draws its chart is installed for the book alone."""
    monkeypatch.setitem(sys.modules, "altair", SimpleNamespace(Chart=None))
    folder = tmp_path / "results" / "recorded" / "run"
    (folder / "every_repair").mkdir(parents=True)
    for model, seconds in (("one/a", 3.0), ("two", 5.0)):
        slug = models.slug(model)
        (folder / "every_repair" / f"{slug}.csv").write_text(f"level,method,point,seconds\n3bit,lora,rank 8,{seconds}\n")
        path = folder / "comparison" / slug / "w3" / "lora.json"
        path.parent.mkdir(parents=True)
        found = {"model": model, "level": "3bit", "method": "lora"}
        path.write_text(json.dumps({"cell": found, "perplexity": [{"point": "rank 8", "evaluated_on": "text", "ppl": 2.0}]}))
    rows = runpy.run_path(str(ROOT / "book" / "explorer.py"))["rows"](tmp_path, tmp_path / "page", "run", "A run")
    assert {row["model"]: row["seconds to learn"] for row in rows} == {"one/a": 3.0, "two": 5.0}


def test_every_make_command_that_is_named_is_one():
    targets = set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text()))
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *NOTEBOOKS, *(ROOT / ".github/workflows").glob("*.yml")]
    named = {name for page in pages for name in re.findall(r"(?:`|run: |^)make ([a-z][a-z-]*)\b", page.read_text(), re.M)}
    assert {"repro", "test", "try", "book", "compare"} <= named and named <= targets


def test_links_of_the_pages_lead_somewhere():
    for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")):
        for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
            assert link.startswith("https://") or (page.parent / link).exists(), f"{page.name}: {link}"
