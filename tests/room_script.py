"""Every kind of stage on a disk that is full, and then on the same disk with room: ``unshare -rm python room_script.py FOLDER``.

It prints a JSON line a try: the stage, the bytes that were free, its code and what it said.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import small_study
from conftest import ROOT

OWN = ("-p", "model", "own")
STAGES = {
    "digests": ("ctp_lib.run.digests",),
    "corpora": ("ctp_lib.text.corpora",),
    "compress": ("ctp_lib.run.cell", "notebooks/02_compression.py", *OWN, "-p", "level", "3bit"),
    "learn": ("ctp_lib.run.cell", "notebooks/03_soft_prompt.py", *OWN, "-p", "level", "3bit"),
    "score": ("ctp_lib.recovery.scores", "own", "3bit", "soft_prompt"),
    "question": ("ctp_lib.run.cell", "notebooks/07_cross_dataset.py", *OWN),
}


def tried(project: Path, stage: str, free: int | None) -> None:
    filler = project / "filler"
    if free is not None:
        with filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(1 << 16))
            except OSError:
                file.truncate(file.tell() - free)
    done = subprocess.run(
        [sys.executable, "-m", *STAGES[stage]], cwd=project, capture_output=True, text=True, check=False, timeout=300
    )
    filler.unlink(missing_ok=True)
    print(json.dumps({"stage": stage, "free": free, "code": done.returncode, "said": done.stderr[-2000:]}), flush=True)


if __name__ == "__main__":
    project = Path(sys.argv[1])
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "none", project], check=True)
    shutil.copytree(ROOT / "notebooks", project / "notebooks")
    raw = small_study.params(levels=["full", "3bit"])
    small_study.write(project, raw)
    subprocess.run([sys.executable, "-m", "ctp_lib.run.graph"], cwd=project, check=True, capture_output=True)
    for stage in STAGES:
        for free in (0, 1 << 16, None):
            tried(project, stage, free)
