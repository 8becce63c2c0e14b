"""Every question's notebook from top to bottom as JupyterLab runs it: from its folder, with `model` set to a folder, and no DVC."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import repositories
import small_study
from conftest import HUB, ROOT

QUESTIONS = [
    path.stem for path in sorted((ROOT / "notebooks").glob("[0-9]*.py")) if path.stem[:2] not in ("01", "17", "18")
]  # those three are of a whole study


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("jupyter")
    shutil.copytree(ROOT / "notebooks", folder / "notebooks")
    repositories.build(HUB.root)
    small_study.make(folder, levels=["full", "75%"])
    shutil.copytree(folder / "own", folder / "brought")  # a folder that params.yaml does not name
    return folder


@pytest.mark.long
@pytest.mark.parametrize("name", QUESTIONS)
def test_a_notebook_runs_by_itself_on_a_folder(name, project):
    code = (project / "notebooks" / f"{name}.py").read_text()
    code = re.sub(r'(?m)^model = "reference"$', 'model = "brought"', code).replace('other = "second"', 'other = "other"')
    code = code.replace('level = "3bit"', 'level = "75%"')
    around = os.environ | {"MPLBACKEND": "agg"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=project / "notebooks", env=around, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
