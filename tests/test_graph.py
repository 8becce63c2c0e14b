"""The graph by DVC itself: every profile starts, and an edit names the stages that it touches and no other."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import small_study
import yaml
from conftest import ROOT

from ctp_lib.run import graph
from ctp_lib.settings import study
from ctp_lib.settings.spec import ParameterError

pytestmark = pytest.mark.medium
PARTS = [".dvc/config", ".dvcignore", "ctp_lib", "notebooks", "dvc.yaml", "requirements.txt", "params.yaml"]


def copied(folder: Path) -> Path:
    """A copy of what the graph stands on, in a path that is hard on tools."""
    for part in PARTS:
        source, goal = ROOT / part, folder / part
        goal.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, goal, ignore=shutil.ignore_patterns("__pycache__", "*.ipynb"))
        else:
            shutil.copy(source, goal)
    return folder


def call(folder: Path, *command: str) -> str:
    around = os.environ | {"PYTHONPATH": str(folder), "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=folder, env=around, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("profile", list(yaml.safe_load((ROOT / "params.yaml").read_text())["profiles"]))
def test_every_profile_starts_in_a_path_with_a_space_and_a_bracket(profile, tmp_path):
    folder = copied(tmp_path / "a [b")
    shutil.copytree(ROOT / "models", folder / "models", ignore=shutil.ignore_patterns("embedded", "*.safetensors"))
    call(folder, sys.executable, "-m", "ctp_lib.run.graph", profile)
    settings = study.load(folder / "params.yaml")
    stages = call(folder, "dvc", "stage", "list", "--name-only").split("\n")
    cells = [name for name in stages if name.startswith("compress@")]
    assert len(cells) == len(settings.study.models) * len(settings.compressed) and len(stages) > 30
    call(folder, "dvc", "repro", "reads", "digests")
    said = json.loads(call(folder, "dvc", "status", "--json"))
    assert "digests" not in said and set(said) >= {cells[0], "corpora", "findings"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A study whose stages are all recorded as done: outputs of a word each, so that DVC can say what an edit would run again."""
    folder = copied(tmp_path_factory.mktemp("graph"))
    raw = small_study.params(levels=["full", "3bit", "62.5%", "wanda:2:4"])
    raw["models"] = {"own": {"source": "own"}, "other": {"source": "other"}, "a model 1.5/b": {"source": "own"}}
    raw["profiles"]["embedded"]["models"] = ["own", "a model 1.5/b"]
    small_study.write(folder, raw)
    (folder / "tasks").mkdir()
    (folder / "tasks" / "mine.yaml").write_text("task: mine")
    raw["profiles"]["embedded"]["tasks"]["folder"] = "tasks"
    (folder / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    call(folder, sys.executable, "-m", "ctp_lib.run.graph")
    call(folder, "dvc", "repro", "reads", "digests")
    outputs = json.loads(call(folder, sys.executable, "-c", OUTPUTS))
    for path in outputs:
        goal = folder / path
        if any(other.startswith(f"{path}/") for other in outputs) or not goal.suffix or goal.name in ("s62.5", "a_model_1.5--b"):
            goal.mkdir(parents=True, exist_ok=True)
            (goal / "part").write_text(path)
        else:
            goal.parent.mkdir(parents=True, exist_ok=True)
            goal.write_text(path)
    for path in json.loads(call(folder, sys.executable, "-c", OUTPUTS.replace("stage.outs", "stage.deps"))):
        if not (goal := folder / path).exists():
            goal.parent.mkdir(parents=True, exist_ok=True)
            goal.write_text(path)
    call(folder, "dvc", "commit", "--force", "--quiet")
    assert touched(folder) == set()
    return folder


OUTPUTS = """
import json, os
from dvc.repo import Repo
stages = [stage for stage in Repo().index.stages if not stage.name.startswith(("reads", "digests"))]
print(json.dumps(sorted({os.path.relpath(str(out)) for stage in stages for out in stage.outs})))
"""


def touched(folder: Path) -> set[str]:
    """The stages that DVC names once reads and digests are up to date."""
    call(folder, sys.executable, "-m", "ctp_lib.run.graph")
    call(folder, "dvc", "repro", "--quiet", "reads", "digests")
    return set(json.loads(call(folder, "dvc", "status", "--json")))


def after(finished: Path, tmp_path: Path, edit: Callable[[Path], None]) -> set[str]:
    """What an edit of a copy touches."""
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder, symlinks=True)
    edit(folder)
    return touched(folder)


def replaced(path: str, old: str, new: str) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        text = (folder / path).read_text()
        assert old in text
        (folder / path).write_text(text.replace(old, new, 1))

    return edit


def profile(section: str, **changes) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        raw = yaml.safe_load((folder / "params.yaml").read_text())
        found = raw["profiles"]["embedded"]
        if section in ("levels", "methods"):
            found[section] = changes["value"]
        else:
            found[section] |= changes
        (folder / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))

    return edit


def kinds(stages: set[str]) -> set[str]:
    return {stage.partition("@")[0] for stage in stages}


CELLS = {"corpora", "preflight", "compress", "learn", "score", "score_none"}


def test_a_comment_in_every_package_runs_nothing(finished, tmp_path):
    def edit(folder: Path) -> None:
        for package in sorted(path for path in (folder / "ctp_lib").iterdir() if path.is_dir()):
            for path in package.glob("*.py"):
                path.write_text(path.read_text().replace('"""', '"""Edited. ', 1) + "\n# a comment\n")
        for path in (folder / "notebooks").glob("*.py"):
            path.write_text(path.read_text().replace("# # ", "# # Edited: ", 1).replace('model = "reference"', 'model = "mine"'))

    assert after(finished, tmp_path, edit) == set()


@pytest.mark.parametrize(
    ("path", "old", "new", "expected"),
    [
        ("ctp_lib/claims/c7_cross_task.py", "POWER = 2.8", "POWER = 2.9", {"cross_task", "stored_size"}),
        ("ctp_lib/compression/wanda.py", '"Wanda"', '"wanda"', {"compress@own-wanda-2of4", "compress@a_model_1.5--b-wanda-2of4"}),
        pytest.param(
            *(
                "ctp_lib/recovery/lora.py",
                "1_000_003",
                "1_000_004",
                {"repair", "what_repairs", "every_repair", "each_input", "facts", "knowledge", "metric_audit", "cost", "preflight"},
            ),
            marks=pytest.mark.long,
        ),
        pytest.param(*("ctp_lib/claims/style.py", "0.35", "0.36", None), marks=pytest.mark.long),
        pytest.param(*("ctp_lib/results/cells.py", "indent=1", "indent=2", set()), marks=pytest.mark.long),
        pytest.param(*("notebooks/13_stored_size.py", "round(3)", "round(2)", {"stored_size"}), marks=pytest.mark.long),
        ("requirements.txt", "tqdm==", "sphinx==1.0\ntqdm==", set()),
    ],
)
def test_an_edit_runs_what_it_touches(finished, tmp_path, path, old, new, expected):
    found = after(finished, tmp_path, replaced(path, old, new))
    if expected is None:
        assert not kinds(found) & CELLS and found
    elif any("@" in name for name in expected):
        assert found == expected
    else:
        assert kinds(found) == expected


def test_a_seed_and_test_windows_compress_nothing_and_windows_learn_nothing(finished, tmp_path):
    seeds = kinds(after(finished, tmp_path / "seed", profile("soft_prompt", seeds=[0, 1, 2])))
    assert "learn" in seeds and "score" in seeds and not seeds & {"corpora", "compress", "score_none"}
    windows = kinds(after(finished, tmp_path / "windows", profile("evaluation", windows={"validation": 4, "test": 6})))
    assert "score" in windows and "score_none" in windows and not windows & {"corpora", "compress", "learn"}


def test_a_level_and_a_method_run_their_own_cells_alone(finished, tmp_path):
    levels = ["full", "3bit", "rtn:4bit", "62.5%", "wanda:2:4"]
    found = {stage for stage in after(finished, tmp_path / "level", profile("levels", value=levels)) if kinds({stage}) & CELLS}
    assert {stage for stage in found if "rtn-w4" not in stage} <= {"preflight@own", "preflight@a_model_1.5--b"} and len(found) == 10
    shutil.copy(Path(__file__).with_name("toys.py"), finished / "toys.py")

    def brought(folder: Path) -> None:
        profile("methods", value={"soft_prompt": {}, "norm_scale": {}})(folder)
        text = (folder / "params.yaml").read_text()
        (folder / "params.yaml").write_text(f"plugins: [toys.py]\n{text}")

    found = {stage for stage in after(finished, tmp_path / "method", brought) if kinds({stage}) & CELLS}
    assert all("norm_scale" in stage for stage in found) and len(found) == 16


def test_what_the_reader_brings_is_a_dependency(finished, tmp_path):
    text = after(finished, tmp_path / "text", lambda folder: (folder / "text" / "broad-1.txt").write_text("other words"))
    assert "corpora" in text
    weights = after(finished, tmp_path / "weights", lambda folder: (folder / "own" / "config.json").write_text("{}"))
    assert {"compress@own-w3", "compress@a_model_1.5--b-w3"} <= weights
    other = after(finished, tmp_path / "other", lambda folder: (folder / "other" / "config.json").write_text("{}"))
    assert kinds(other) == {"another_model", "facts"}, "another one, and a smaller one"
    tasks = after(finished, tmp_path / "tasks", lambda folder: (folder / "tasks" / "mine.yaml").write_text("task: yours"))
    assert kinds(tasks) == {"cross_task", "repair", "facts"}


def test_another_study_and_back_runs_nothing(finished, tmp_path):
    def there_and_back(folder: Path) -> None:
        raw = yaml.safe_load((folder / "params.yaml").read_text())
        raw["profiles"]["second"] = {**raw["profiles"]["embedded"], "levels": ["full", "3bit"]}
        for section in ("cross_dataset", "tasks", "comparison"):
            raw["profiles"]["second"][section] = {**raw["profiles"]["second"][section], "levels": ["full", "3bit"]}
        (folder / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
        call(folder, sys.executable, "-m", "ctp_lib.run.graph", "second")
        call(folder, "dvc", "repro", "--quiet", "reads", "digests")
        assert kinds(set(json.loads(call(folder, "dvc", "status", "--json")))) > CELLS
        call(folder, sys.executable, "-m", "ctp_lib.run.graph", "embedded")

    assert after(finished, tmp_path, there_and_back) == set()


def test_a_graph_that_is_out_of_date_is_written_anew(finished, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder, symlinks=True)
    profile("levels", value=["full", "3bit", "62.5%", "wanda:2:4", "4bit"])(folder)
    around = os.environ | {"PYTHONPATH": str(folder)}
    command = [sys.executable, "-m", "ctp_lib.run.digests"]
    done = subprocess.run(command, cwd=folder, env=around, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "graph.yaml is written anew, so type the same once more" in done.stderr
    subprocess.run(command, cwd=folder, env=around, check=True)
    assert "w4" in (folder / "graph.yaml").read_text()


def test_what_would_make_the_graph_circular_or_ambiguous_is_refused(tmp_path):
    raw = small_study.params()
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
    assert graph.graph(study.load(tmp_path / "params.yaml"))["shown"] == "s50"
    raw["corpora"]["sources"]["broad"]["files"] = {"train": "*.txt"}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
    with pytest.raises(ParameterError, match=r"corpora\.sources: files is '\*\.txt'; allowed is a path into a folder"):
        graph.graph(study.load(tmp_path / "params.yaml"))
    raw["corpora"]["sources"]["broad"]["files"] = {"train": "a b/*.txt"}
    raw["corpora"]["sources"]["narrow"]["files"] = {"train": "a_b/*.txt"}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
    with pytest.raises(ParameterError, match="allowed is names that differ in more than slashes and spaces"):
        graph.graph(study.load(tmp_path / "params.yaml"))


def test_an_unknown_study_and_a_level_that_nobody_can_do_are_refused(finished, tmp_path):
    folder = tmp_path / "copy"
    folder.mkdir()
    shutil.copy(finished / "params.yaml", folder)
    with pytest.raises(ParameterError, match="STUDY is 'laptob'; allowed is one of embedded"):
        graph.choose(folder, "laptob")
    profile("levels", value=["full", "3bit", "62.5%", "wanda:2:4", "wanda:3bit"])(folder)
    with pytest.raises(ParameterError, match="level wanda:3bit: Wanda cannot do it"):
        graph.graph(study.load(folder / "params.yaml"))
