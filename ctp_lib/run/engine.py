"""``python -m ctp_lib.run.engine [--on slurm]``: the graph of the study, several stages at a time.

DVC says what is left to do, submitit does it, here or as jobs of SLURM. Nothing else is scheduled: a stage is sent when all that it depends on
is done, as ``dvc repro --single-item``, so DVC's own locks and records hold, and ``dvc status`` is clean in the end. A job that is preempted or
runs out of time goes back into the queue, one that dies is sent again, and a training goes on from its checkpoint. On SLURM, jobs go
on if this process dies, and the next one takes them over.
"""

import argparse
import contextlib
import functools
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import networkx as nx
import psutil
import submitit
from dvc.lock import LockError
from dvc.repo import Repo
from filelock import FileLock, Timeout
from submitit.helpers import Checkpointable

from ctp_lib.run import locks, needs
from ctp_lib.settings import paths, study
from ctp_lib.settings.spec import ParameterError, first_line, one_sentence, require

JOBS = ".jobs"
PROGRESS = "%|"  # what a line of a progress bar holds
CLEAR = "\r\x1b[K"
TAIL = 8_000  # bytes of a log that are looked at
TRIES = 5
"""A stage whose job vanishes so many times counts as failed."""
TIMEOUTS = 10
"""So often a job that ran out of its minutes goes back into the queue."""
A_MONTH = 60 * 24 * 30  # minutes: here, nothing stops a job


class Cell(Checkpointable):
    """One stage of the graph, as a job. Where the job has to stop, submitit puts it back into the queue."""

    def __init__(self, name: str, threads: int | None):
        self.name, self.threads, self.gpus = name, threads, os.environ.get("CUDA_VISIBLE_DEVICES")

    def __call__(self) -> None:
        """Run the stage. Raises :class:`subprocess.CalledProcessError` if it fails; if it is killed, the job leaves no result."""
        own = dict(os.environ)
        if self.threads is not None:  # here, where submitit would hide every GPU
            own |= {"OMP_NUM_THREADS": str(self.threads)}
            own.pop("CUDA_VISIBLE_DEVICES", None)
            own |= {} if self.gpus is None else {"CUDA_VISIBLE_DEVICES": self.gpus}
        locks.mend(Path.cwd())
        command = [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "--single-item", self.name]
        code = _run(command, own)
        if code > 0 and locks.mend(Path.cwd()):  # another job was killed while it wrote them
            code = _run(command, own)
        if code < 0:
            os._exit(1)
        if code:
            raise subprocess.CalledProcessError(code, command)


def _run(command: list[str], environment: Mapping[str, str]) -> int:
    """The exit code of ``command``. Where this job has to stop, nothing of it goes on beside its successor."""
    running = subprocess.Popen(command, env=environment)
    try:
        return running.wait()
    finally:
        _kill(psutil.Process().children())


def _kill(processes: Iterable[psutil.Process]) -> None:
    """Kill them and all that they started; each is suspended first, so that it starts nothing more."""
    for one in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.suspend()
            _kill(one.children())
            one.kill()


def stages(root: Path) -> tuple[nx.DiGraph, set[str]]:
    """The graph of stages by their names, each with edges to those it depends on; and those that are done, with all that they depend on."""
    locks.mend(root)
    repo = Repo(str(root), _wait_for_lock=True)
    with repo.lock:
        found, done = repo.index.graph, set()
        graph = nx.relabel_nodes(found, {stage: stage.addressing for stage in found})
        for stage in reversed(list(nx.topological_sort(found))):
            with contextlib.suppress(LockError):  # a job that is at work on it holds it
                if set(graph[stage.addressing]) <= done and not stage.changed():
                    done.add(stage.addressing)
    return graph, done


@dataclass
class Engine:
    """Sends ``graph``'s stages, but those that are ``done``, as jobs: ``at_once`` at a time, each with ``threads``, with files in ``folder``.
    Each has an executor of its own, since submitit's remember what the last job asked for.
    """

    graph: nx.DiGraph
    done: set[str]
    executor: Callable[[], submitit.Executor]
    folder: Path
    at_once: int
    threads: int | None = None
    asked: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    of: int = 0  # all stages of the study, where `graph` has only the first
    running: dict[str, submitit.Job] = field(default_factory=dict)
    tried: dict[str, int] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def run(self, poll: float = 1.0) -> None:
        """Until all is done, or nothing more can be. Raises :class:`ParameterError` that names what failed, with its log."""
        self._adopt()
        while self.running or self._ready():
            for name in self._ready()[: max(0, self.at_once - len(self.running))]:
                self._send(name)
            time.sleep(poll)
            self._show()
            for name in [name for name, job in self.running.items() if self._ended(job)]:
                self._settle(name, self.running.pop(name))
        if self.failed:
            told = "; ".join(f"{name} failed, see {log}" for name, log in self.failed.items())
            raise ParameterError(f"{told}. What does not depend on it is done; mend it and run the command again")

    def _ready(self) -> list[str]:
        taken = {*self.done, *self.running, *self.failed}
        return [name for name in self.graph if name not in taken and set(self.graph[name]) <= self.done]

    def _send(self, name: str) -> None:
        executor = self.executor()
        try:
            executor.update_parameters(name=name.replace("@", "-"), **self.asked.get(name, {}))
            with _deaf():
                self.running[name] = executor.submit(Cell(name, self.threads))
        except (
            Exception
        ) as error:  # submitit names parameters that it does not know in several ways, and sbatch refuses by its exit code
            self.failed[name] = f"the answer to its submission: {first_line(error)}"
            self._told(name, f"was refused: {first_line(error)}")
            return
        self.tried[name] = self.tried.get(name, 0) + 1
        self._told(name, f"job {self.running[name].job_id}" + (f", try {self.tried[name]}" if self.tried[name] > 1 else ""))
        self._remember()

    def _settle(self, name: str, job: submitit.Job) -> None:
        if job.paths.result_pickle.exists():
            if job.exception() is None:
                self.done.add(name)
                self._told(name, "done")
            else:
                self.failed[name] = str(job.paths.stderr)
                self._told(name, f"failed: {why(job.paths.stderr)}")
        elif self.tried.get(name, 1) >= TRIES:
            self.failed[name] = f"{job.paths.stderr} (it vanished {TRIES} times)"
        else:
            self._told(name, "vanished, and is sent again")  # by being ready once more
        self._remember()

    def _ended(self, job: submitit.Job) -> bool:
        """Whether it has a result, or is neither running nor waiting; SLURM is asked by squeue, which needs no accounting."""
        if job.paths.result_pickle.exists():
            return True
        if not isinstance(job, submitit.SlurmJob):
            return job.done()
        queued = subprocess.run(["squeue", "-h", "-j", job.job_id, "-o", "%T"], capture_output=True, text=True)
        gone = queued.returncode == 0 or "Invalid job id" in queued.stderr  # else squeue itself does not answer
        return gone and not queued.stdout.strip() and not job.paths.result_pickle.exists()

    def _told(self, name: str, what: str) -> None:
        print(
            f"{CLEAR if sys.stdout.isatty() else ''}[{len(self.done)} of {self.of or len(self.graph)}] {name}: {what}", flush=True
        )

    def _show(self) -> None:
        """On a terminal, the progress bars of what runs, in one line that is written over."""
        if sys.stdout.isatty():
            bars = [f"{name}: {bar}" for name, job in self.running.items() if (bar := progress(job.paths.stderr))]
            print(CLEAR + " | ".join(bars)[: shutil.get_terminal_size().columns - 1], end="", flush=True)

    def _remember(self) -> None:
        """SLURM's jobs alone: others end with this process."""
        known = {name: [job.job_id, self.tried[name]] for name, job in self.running.items() if isinstance(job, submitit.SlurmJob)}
        with paths.replacing(self.folder / "running.json") as incoming:
            incoming.write_text(json.dumps(known))

    def _adopt(self) -> None:
        """Take over what an engine that died has sent to SLURM."""
        path, executor = self.folder / "running.json", self.executor()
        left = json.loads(path.read_text()) if path.exists() and executor.cluster == "slurm" else {}
        for name, (job_id, tried) in left.items():
            if name in self.graph and name not in self.done:
                self.running[name] = submitit.SlurmJob(folder=executor.folder, job_id=job_id, tasks=[0])
                self.tried[name] = tried
                self._told(name, f"job {job_id} is taken over")


def progress(log: Path) -> str:
    """The state of the last progress bar in a job's ``log``, without the bar itself: its label, share, rate and time left."""
    bars = ["", *(line for line in said(log) if PROGRESS in line)]
    return re.sub(r"\|.*?\|", "", bars[-1])


def why(log: Path) -> str:
    """What a job that failed said last, before submitit's own report, and where the rest is."""
    lines = itertools.takewhile(lambda line: not line.startswith("submitit ERROR"), said(log))
    told = [line for line in lines if PROGRESS not in line and not line.startswith(("ERROR: failed to reproduce", "submitit"))]
    return f"{told[-1]} ({log})" if told else f"see {log}"


def said(log: Path) -> list[str]:
    """The last lines of a log, also those that were written over."""
    if not log.exists():
        return []
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - TAIL))
        return [line.strip() for line in re.split(r"[\r\n]+", file.read().decode("utf-8", "replace")) if line.strip()]


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """What is started meanwhile does not hear Ctrl-C, which this process answers for all."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def stopped() -> Iterator[None]:
    """Where this process is told to stop, what it started on this machine stops too, and :class:`ParameterError` says how to go on."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        raise ParameterError("stopped; the same command goes on from here") from None
    finally:
        signal.signal(signal.SIGTERM, before)
        _kill(psutil.Process().children())


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Raise :class:`ParameterError` where another process is sending the stages of this project already."""
    try:
        with FileLock(folder / "engine.lock", timeout=0):
            yield
    except Timeout:
        raise ParameterError("another `make repro` is at work in this folder; wait for it, or stop it") from None


@one_sentence()
def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m ctp_lib.run.engine", description="Run the study, several stages at a time.")
    parser.add_argument("--on", choices=["local", "slurm"], default="local")
    parser.add_argument("--at-once", type=int, help="stages at a time; unless said, what there is room for, or 100 jobs on SLURM")
    asked, settings = parser.parse_args(), study.load()
    local, folder, at_once = asked.on == "local", settings.root / JOBS, asked.at_once
    require(at_once is None or at_once >= 1, "--at-once", at_once, "1 or more")
    require(local or shutil.which("sbatch") is not None, "ON", asked.on, "local; SLURM's sbatch is not here")
    with alone(folder), stopped():
        graph, done = stages(settings.root)

        def run(what: nx.DiGraph, at_once: int, each: Mapping[str, Mapping[str, Any]]) -> None:
            executor = functools.partial(submitit.AutoExecutor, folder=folder, cluster=asked.on, slurm_max_num_timeout=TIMEOUTS)
            threads = max(1, (os.cpu_count() or 1) // at_once) if local else None
            Engine(what, done, executor, folder, at_once, threads, each, of=len(graph)).run(poll=0.2 if local else 5.0)

        if not local:
            told, memory = needs.cluster(settings.root / needs.RESOURCES, graph), needs.memory_needed(settings)
            run(graph, at_once or 100, {name: needs.submitted(told, name, memory) for name in graph})
            return
        forever = {name: {"timeout_min": A_MONTH} for name in graph}
        if at_once is None:  # what there is room for is known when the models are here and have been checked
            checks = [name for name in graph if name.startswith("preflight")]
            first = {*checks, *(before for name in checks for before in nx.descendants(graph, name))}
            run(graph.subgraph(first), 1, forever)
        if len(done) < len(graph):  # counting memory takes seconds
            run(graph, at_once or needs.together(settings), forever)


if __name__ == "__main__":
    main()
