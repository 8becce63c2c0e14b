"""Kernels that are forked: the same outputs as in kernels of their own, the command's own exit status, and nothing left behind."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
import pytest
from conftest import ROOT

NOTEBOOK = """
# %% [markdown]
# # Anything
# %% tags=["parameters"]
model = "reference"
# %%
import os, sys
import pandas as pd
import torch
from ctp_lib import study
print(study.load().root, os.getcwd(), os.environ["SAID"], torch.get_num_threads(), hash("a"))
print(sorted(name for name in sys.modules if name.startswith("ctp_lib")))
pd.DataFrame({f"a long name, {n}": [n] for n in range(12)})
# %%
import matplotlib.pyplot as plt
figure = plt.plot([1, 2])
"""
BROKEN = NOTEBOOK + "# %%\nraise ValueError('broken on purpose')\n"
ENDLESS = NOTEBOOK + "# %%\nPath = __import__('pathlib').Path\nPath('begun').write_text(str(os.getpid()))\nwhile True: pass\n"


@pytest.fixture
def project(tmp_path):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    for name, source in (("plain", NOTEBOOK), ("broken", BROKEN), ("endless", ENDLESS)):
        (tmp_path / "notebooks" / f"{name}.py").write_text(source)
    return tmp_path


def command(name: str, *before: str) -> list[str]:
    return [sys.executable, "-m", *before, *([sys.executable, "-m"] if before else []), "ctp_lib.pipeline", f"notebooks/{name}.py"]


def outputs(project: Path) -> list:
    notebook = nbformat.read(project / "results/runs/plain/reference.ipynb", as_version=4)
    return [cell.get("outputs") for cell in notebook.cells]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere kernels start as usual")
def test_a_forked_kernel_is_like_any_other(project, monkeypatch):
    monkeypatch.setenv("SAID", "yes")
    monkeypatch.setenv("PYTHONHASHSEED", "0")
    subprocess.run(command("plain"), cwd=project, check=True)
    usual = outputs(project)
    done = subprocess.run(command("plain", "ctp_lib.nursery"), cwd=project, capture_output=True, text=True, check=True)
    assert outputs(project) == usual and any("image/png" in output.get("data", {}) for output in usual[-1])
    assert "ctp_lib.study" in str(usual) and "ipython kernel" not in done.stdout + done.stderr
    broken = subprocess.run(command("broken", "ctp_lib.nursery"), cwd=project, capture_output=True, text=True, check=False)
    assert broken.returncode == 1 and "ValueError: broken on purpose" in broken.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere kernels start as usual")
def test_a_killed_command_leaves_no_kernel(project, monkeypatch):
    monkeypatch.setenv("SAID", "yes")
    running = subprocess.Popen(command("endless", "ctp_lib.nursery"), cwd=project)
    begun = project / "begun"
    while not (begun.exists() and begun.read_text()):
        assert running.poll() is None
        time.sleep(0.1)
    kernel = psutil.Process(int(begun.read_text()))
    for process in psutil.Process(running.pid).children(recursive=True):
        if "ctp_lib.pipeline" in " ".join(process.cmdline()) or "/socket" in " ".join(process.cmdline()):
            process.kill()
    kernel.wait(timeout=20)
    assert running.wait(timeout=60) != 0
