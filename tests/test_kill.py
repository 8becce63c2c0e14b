"""A study that is killed again and again, once in each kind of stage, ends with the tables of one that never was.

``pytest tests/test_kill.py`` takes a quarter of an hour. Kills come at random moments, drawn with the seed in ``CTP_KILLS`` (0 unless set).
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest
import small_study
import yaml
from test_graph import copied

pytestmark = pytest.mark.long
BOOKS = "DVC's own bookkeeping"
LEVELS = ["full", "3bit", "50%+4bit"]


def toy(folder: Path) -> Path:
    """The whole graph, at toy size."""
    copied(folder)
    small_study.write(folder, small_study.params(levels=LEVELS, tasks={"names": ["mine"], "folder": "tasks"}))
    small_study.write_task(folder / "tasks", ["axis", "array"])
    return folder


def repro(folder: Path, kill: set[str], draw: random.Random, with_signal: int = signal.SIGKILL) -> tuple[int, str | None]:
    """Run the study. When a kind of stage begins that is in ``kill``, let it live for some seconds, kill all there is, and say which it was.

    SIGTERM goes to DVC alone; SIGINT, as Ctrl-C does, and SIGKILL to its whole family.
    """
    around = os.environ | {
        "PYTHONPATH": str(folder), "PYTHONUNBUFFERED": "1", "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }  # fmt: skip
    subprocess.run([sys.executable, "-m", "ctp_lib.run.graph"], cwd=folder, env=around, check=True, capture_output=True)
    process = subprocess.Popen(
        ["dvc", "repro"], cwd=folder, env=around, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    killed, said = None, []

    def strike() -> None:
        family = [process]
        with contextlib.suppress(psutil.NoSuchProcess):
            family = [process, *psutil.Process(process.pid).children(recursive=True)]
        for member in family[:1] if with_signal == signal.SIGTERM else family:
            with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
                member.send_signal(with_signal)

    for line in process.stdout:
        said.append(line)
        kind = line.partition("'")[2].partition("'")[0].partition("@")[0] if line.startswith("Running stage") else None
        if killed is None and kind in kill:
            killed = kind
            threading.Timer(draw.uniform(0.5, 9), strike).start()
        elif killed is None and BOOKS in kill and "lock file" in line:
            killed = BOOKS
            strike()
    code = process.wait()
    assert code == 0 or killed, "".join(said[-40:])
    return code, killed


def tables(folder: Path) -> dict[str, bytes]:
    """Every result by its path, but those that hold seconds."""
    found = {}
    for path in sorted((folder / "results").rglob("*")):
        if path.suffix not in (".json", ".csv") or "cost" in str(path.relative_to(folder)) or path.stem == "C9":
            continue
        found[str(path.relative_to(folder))] = path.read_bytes()
    claims = next(name for name in found if name.endswith("claims.json"))
    found[claims] = json.dumps([claim for claim in json.loads(found[claims]) if claim["claim"] != "C9"]).encode()
    return found


def spent(folder: Path) -> dict[str, bytes]:
    """What each finished compression and training took: another figure would mean that it was done again."""
    costs = (folder / "results").glob("*/costs/*/**/*.json")
    return {str(path): path.read_bytes() for path in costs if path.relative_to(folder).parts[3] != "scores"}


def test_a_study_that_is_killed_in_every_kind_of_stage_ends_with_the_same_tables(tmp_path):
    draw = random.Random(int(os.environ.get("CTP_KILLS", "0")))
    whole, folder = toy(tmp_path / "whole"), toy(tmp_path / "killed")  # both now, should somebody edit meanwhile
    repro(whole, set(), draw)
    names = [stage.partition("@")[0] for stage in yaml.safe_load((whole / "dvc.lock").read_text())["stages"]]
    kinds = {BOOKS, *names} - {"reads", "digests"}
    kills, before = [], {}
    while True:
        how = [signal.SIGKILL] * 3 + [signal.SIGTERM, signal.SIGINT]
        code, kind = repro(folder, kinds - set(kills), draw, how[len(kills) % len(how)])
        kills += [kind] if kind else []
        assert all(spent(folder)[path] == found for path, found in before.items()), f"done again after the kill in {kills[-1]}"
        before = spent(folder)
        if code == 0 and not (kinds - set(kills)):
            break
        assert len(kills) <= len(kinds)
    print(f"{len(kills)} kills: {', '.join(kills)}")
    ours, theirs = tables(folder), tables(whole)
    assert ours.keys() == theirs.keys() and len(kills) == len(kinds)
    assert [path for path in ours if ours[path] != theirs[path]] == []
