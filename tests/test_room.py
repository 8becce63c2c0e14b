"""A full disk and too little memory end in a sentence, and what was finished is kept."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import small_study
import torch
from conftest import ROOT

from ctp_lib.run import cell
from ctp_lib.settings import paths
from ctp_lib.settings.spec import one_sentence

CAN_MOUNT = (
    subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode == 0
    if sys.platform == "linux"
    else False
)


@pytest.mark.long
@pytest.mark.skipif(not CAN_MOUNT, reason="a disk of its own cannot be mounted here")
def test_every_kind_of_stage_on_a_full_disk_says_so_and_goes_on_when_there_is_room(tmp_path):
    done = subprocess.run(
        ["unshare", "-rm", sys.executable, Path(__file__).with_name("room_script.py"), tmp_path],
        capture_output=True,
        text=True,
        check=True,
    )
    tries = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(tries) == 18
    for tried in tries:
        full = [line for line in tried["said"].splitlines() if line.startswith("the disk is full")]
        assert (tried["code"] == 0 and not full) or (tried["code"] == 1 and full and tried["free"] is not None), tried
        assert "Traceback" not in tried["said"], tried
    assert all(tried["code"] == 1 for tried in tries if tried["free"] == 0)
    learned = [tried for tried in tries if tried["stage"] == "learn"]
    assert "4/4" in learned[1]["said"] and "4/4" not in learned[2]["said"]  # what was finished is not done again


@pytest.mark.parametrize("ask", [lambda: torch.empty(1 << 50), lambda: bytearray(1 << 60)], ids=["torch", "python"])
def test_too_little_memory_is_said_so(ask):
    with pytest.raises(SystemExit, match="there is not enough memory .*; make room and run again") as stopped, one_sentence():
        ask()
    assert "\n" not in str(stopped.value)


def test_other_errors_stay_what_they_are():
    with pytest.raises(RuntimeError, match="something else"), one_sentence():
        raise RuntimeError("something else")


def test_what_could_not_be_written_leaves_no_part_of_it(tmp_path):
    with pytest.raises(OSError), paths.replacing(tmp_path / "a.json") as incoming:
        incoming.write_text("{")
        raise OSError(28, "No space left on device")
    assert list(tmp_path.iterdir()) == []


ENDS = {
    "killed": ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "ended from outside"),
    "memory": ("import torch\ntorch.empty(1 << 50)", "there is not enough memory"),
}


@pytest.mark.medium
@pytest.mark.parametrize("how", ENDS)
def test_a_notebook_that_the_system_ends_is_said_so(how, tmp_path, monkeypatch, capsys):
    code, said = ENDS[how]
    monkeypatch.chdir(small_study.write(tmp_path, small_study.params()))
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "ends.py").write_text(f"# %%\n{code}\n")
    assert cell.run(Path("notebooks/ends.py"), {}) == 1
    assert said in capsys.readouterr().err


@pytest.mark.long
def test_two_cells_side_by_side_give_what_they_give_one_after_the_other(tmp_path):
    found = {}
    for how in ("together", "in turn"):
        folder = small_study.make(tmp_path / how, levels=["full", "3bit"]).root
        shutil.copytree(ROOT / "notebooks", folder / "notebooks")
        command = [sys.executable, "-m", "ctp_lib.run.cell", "notebooks/03_soft_prompt.py", "-p", "model", "own", "-p", "level"]
        running = []
        for level in ("full", "3bit"):
            running.append(subprocess.Popen([*command, level], cwd=folder, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL))
            if how == "in turn":
                running[-1].wait()
        assert [process.wait() for process in running] == [0, 0]
        found[how] = [path.read_bytes() for path in sorted(folder.glob("models/**/adapter_model.safetensors"))]
    assert len(found["together"]) == 4 and found["together"] == found["in turn"]
