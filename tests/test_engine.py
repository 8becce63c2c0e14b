"""Several stages at a time, here and on a real SLURM: in the graph's order, each once, whatever is killed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import networkx as nx
import psutil
import pytest
import submitit
import torch

from ctp_lib.run import engine, locks, needs
from ctp_lib.settings.spec import ParameterError

STAGES = {"first": [], "left": ["first"], "right": ["first"], "other": [], "last": ["left", "right"]}
COMMAND = "echo {name} >> log && {does} && cat {deps} > {name}.txt && echo {name} >> {name}.txt"

SLEEP = 4321  # seconds, a number that no other process has


def project(folder: Path, **does: str) -> Path:
    """A graph of five stages, each of which says in ``log`` that it ran; what one ``does`` beside may be given."""
    lines = ["stages:"]
    for name, deps in STAGES.items():
        files = [f"{dep}.txt" for dep in deps]
        command = COMMAND.format(name=name, does=does.get(name, "true"), deps=" ".join(files) or "/dev/null")
        lines += [f"  {name}:", f'    cmd: "{command}"', f"    outs: [{name}.txt]"]
        lines += [f"    deps: [{', '.join(files)}]"] if files else []
    (folder / "dvc.yaml").write_text("\n".join(lines) + "\n")
    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "-q"], cwd=folder, check=True)
    return folder


def an_engine(folder: Path, cluster: str = "local", at_once: int = 2) -> engine.Engine:
    graph, done = engine.stages(folder)
    needs = dict.fromkeys(graph, {"timeout_min": engine.A_MONTH} if cluster == "local" else {})
    executor = lambda: submitit.AutoExecutor(folder=folder / engine.JOBS, cluster=cluster)  # noqa: E731
    return engine.Engine(graph, done, executor, folder / engine.JOBS, at_once, 1 if cluster == "local" else None, needs)


def ran(folder: Path) -> list[str]:
    return (folder / "log").read_text().split()


def clean(folder: Path) -> bool:
    status = subprocess.run([sys.executable, "-m", "dvc", "status"], cwd=folder, capture_output=True, text=True)
    return "up to date" in status.stdout


pytestmark = pytest.mark.medium


def test_every_stage_runs_once_after_all_that_it_depends_on(tmp_path, monkeypatch):
    monkeypatch.chdir(project(tmp_path))
    an_engine(tmp_path).run(poll=0.1)
    order = ran(tmp_path)
    assert sorted(order) == sorted(STAGES)
    assert all(order.index(dep) < order.index(name) for name, deps in STAGES.items() for dep in deps)
    assert (tmp_path / "last.txt").read_text().split() == ["first", "left", "first", "right", "last"] and clean(tmp_path)
    again = an_engine(tmp_path)
    assert again.done == set(STAGES)
    again.run()
    assert ran(tmp_path) == order, "what is done is not done again"


def test_what_changed_and_what_depends_on_it_runs_again(tmp_path, monkeypatch):
    monkeypatch.chdir(project(tmp_path))
    an_engine(tmp_path).run(poll=0.1)
    (tmp_path / "left.txt").write_text("changed")
    assert an_engine(tmp_path).done == {"first", "right", "other"}


def test_what_does_not_depend_on_a_failure_is_done_and_the_failure_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(project(tmp_path, left="false"))
    with pytest.raises(ParameterError, match=r"left failed, see .*\. What does not depend on it is done; mend it"):
        an_engine(tmp_path).run(poll=0.1)
    assert set(ran(tmp_path)) == {"first", "left", "right", "other"}


class Vanishing:
    """Jobs of one stage that leave no result until their ``times`` are over; others are done at once."""

    def __init__(self, folder: Path, stage: str, times: int):
        self.folder, self.stage, self.times, self.sent = folder, stage, times, []
        self.cluster = "fake"

    def update_parameters(self, **_):
        pass

    def submit(self, cell: engine.Cell):
        self.sent.append(cell.name)
        lost = cell.name == self.stage and self.sent.count(cell.name) <= self.times
        number = str(len(self.sent))
        result = self.folder / f"{number}.pkl"
        if not lost:
            result.touch()
        paths = type("Paths", (), {"result_pickle": result, "stderr": self.folder / "err"})
        return type("Job", (), {"paths": paths, "job_id": number, "done": lambda _: True, "exception": lambda _: None})()


@pytest.mark.parametrize("times", [1, engine.TRIES])
def test_a_job_that_vanishes_is_sent_again_but_not_for_ever(tmp_path, monkeypatch, times):
    monkeypatch.chdir(project(tmp_path))
    run = an_engine(tmp_path)
    fake = Vanishing(tmp_path, "left", times)
    run.executor = lambda: fake
    if times < engine.TRIES:
        run.run(poll=0.0)
        assert run.executor().sent.count("left") == 2 and sorted(set(run.executor().sent)) == sorted(STAGES)
    else:
        with pytest.raises(ParameterError, match="it vanished 5 times"):
            run.run(poll=0.0)
        assert "last" not in run.executor().sent and run.executor().sent.count("left") == 5


GRAPH = nx.DiGraph({"learn@a-w3": ["corpora", "preflight@a"], "findings": ["learn@a-w3"], "corpora": ["reads@x", "digests"]})
NEEDS = "{gpus: 1, cpus: 4, memory_gb: auto, minutes: 240}"


def test_a_stage_asks_for_what_the_file_says(tmp_path):
    path = tmp_path / "cluster.yaml"
    shutil.copy(Path(__file__).parent.parent / "cluster.yaml", path)
    told = needs.cluster(path, GRAPH)
    assert needs.submitted(told, "learn@a-w3", 5.5) == {"timeout_min": 240, "mem_gb": 5.5, "cpus_per_task": 4, "gpus_per_node": 1}
    assert "gpus_per_node" not in needs.submitted(told, "corpora", 5.5)
    path.write_text(f"default: {NEEDS}\nslurm: {{partition: a100}}\n")
    assert needs.submitted(needs.cluster(path, GRAPH), "learn@a-w3", 1.0)["slurm_partition"] == "a100"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "cluster.yaml is not there"),
        ("", "cluster.yaml is None; allowed is sections, with default among them"),
        ("a: [", "cluster.yaml cannot be read"),
        ("stages: {}", "allowed is sections, with default among them"),
        ("default: {gpus: 1, cpus: 4, memory_gb: auto, minutes: 4h}", "cluster.yaml: default.minutes"),
        ("default: {gpus: 1, cpus: 4, memory_gb: auto, hours: 4}", "cluster.yaml: default"),
        (f"default: {NEEDS}\nstages: {{lern: {{gpus: 0}}}}", "cluster.yaml: stages is 'lern'; allowed is one of corpora"),
        (f"default: {NEEDS}\nstages: {{learn: {{gpus: -1}}}}", "cluster.yaml: learn: gpus"),
    ],
)
def test_a_file_that_is_wrong_is_refused_in_a_sentence(tmp_path, text, said):
    path = tmp_path / "cluster.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ParameterError, match=re.escape(said)):
        needs.cluster(path, GRAPH)


def test_a_job_asks_for_its_own_and_not_for_what_the_last_one_did(tmp_path, monkeypatch):
    monkeypatch.chdir(project(tmp_path))
    run, asked = an_engine(tmp_path, at_once=1), {}
    run.asked = {"first": {"gpus_per_node": 1}}

    class Seen(Vanishing):
        def update_parameters(self, name, **needs):
            asked[name] = needs

    run.executor = lambda: Seen(tmp_path, "none", 0)
    with contextlib.suppress(IndexError):
        run.run(poll=0.0)
    assert asked["first"] == {"gpus_per_node": 1} and asked["other"] == {}


def test_a_job_that_is_refused_is_named_and_stops_what_depends_on_it_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(project(tmp_path))
    run = an_engine(tmp_path)
    run.asked = {**run.asked, "left": {"partion": "a100"}}
    with pytest.raises(ParameterError, match=r"left failed, see the answer to its submission"):
        run.run(poll=0.1)
    assert set(ran(tmp_path)) == {"first", "right", "other"}


def test_what_takes_longer_than_submitits_two_minutes_is_not_stopped(tmp_path, monkeypatch):
    """submitit's own limit is asked for, instead of waiting for it."""
    monkeypatch.chdir(project(tmp_path))
    run = an_engine(tmp_path, at_once=1)
    run.run(poll=0.1)
    submissions = [submitit.core.utils.DelayedSubmission.load(path) for path in (tmp_path / engine.JOBS).glob("*_submitted.pkl")]
    assert {one._timeout_min for one in submissions} == {engine.A_MONTH} and len(submissions) == len(STAGES)


def test_a_job_sees_the_gpus_of_its_engine_and_its_own_threads(tmp_path, monkeypatch):
    project(tmp_path, other="echo $OMP_NUM_THREADS-$CUDA_VISIBLE_DEVICES- > seen")
    for visible in ("3", None):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible) if visible else monkeypatch.delenv(
            "CUDA_VISIBLE_DEVICES", raising=False
        )
        cell = engine.Cell("other", 1)
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # as submitit does
        (tmp_path / "other.txt").unlink(missing_ok=True)
        (tmp_path / "dvc.lock").unlink(missing_ok=True)
        shutil.rmtree(tmp_path / ".dvc" / "cache", ignore_errors=True)
        cell()
        assert (tmp_path / "seen").read_text().strip() == f"1-{visible or ''}-"


def test_a_job_that_has_to_stop_leaves_nothing_running(tmp_path):
    project(tmp_path, other="sleep 60")
    code = "from ctp_lib.run.engine import Cell; import signal, sys; signal.signal(signal.SIGUSR2, lambda *_: sys.exit(3)); Cell('other', 1)()"
    job = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path)
    until(lambda: (tmp_path / "log").exists())
    started = psutil.Process(job.pid).children(recursive=True)
    assert any("sleep" in " ".join(one.cmdline()) for one in started)
    job.send_signal(signal.SIGUSR2)
    assert job.wait(timeout=30) == 3 and not psutil.wait_procs(started, timeout=10)[1]


def test_a_failure_says_why_and_a_bar_how_far(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(
        project(tmp_path, right="(echo 'learn:  50%|##  | 2/4 [00:01<00:01]' >&2; echo 'too little text; take more' >&2; exit 1)")
    )
    with pytest.raises(ParameterError, match="right failed, see"):
        an_engine(tmp_path).run(poll=0.1)
    assert re.search(r"right: failed: too little text; take more \(.*_log.err\)", capsys.readouterr().out)
    log = tmp_path / "log.err"
    log.write_text(
        "submitit INFO - starting\n\rlearn:  10%|#         | 8/80 [00:05<01:05]\rlearn:  20%|##        | 16/80 [00:10<01:00]\ndone\n"
    )
    assert engine.progress(log) == "learn:  20% 16/80 [00:10<01:00]" and engine.why(log).startswith("done")
    assert engine.progress(tmp_path / "none") == "" and engine.why(tmp_path / "none") == f"see {tmp_path / 'none'}"


@pytest.mark.parametrize("told", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_leaves_nothing_behind_and_goes_on_later(tmp_path, told):
    """A terminal tells every process of its group; whoever stops one process tells that one."""
    project(tmp_path, left=f"sleep $(test -f again && echo 0 || echo {SLEEP})")
    run = (
        "import os, sys; from pathlib import Path; from test_engine import an_engine, engine\n"
        "from ctp_lib.settings.spec import one_sentence\n"
        "@one_sentence()\ndef go():\n    with engine.stopped():\n        an_engine(Path.cwd()).run(poll=0.1)\ngo()"
    )
    around = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    begun = subprocess.Popen(
        [sys.executable, "-c", run], cwd=tmp_path, env=around, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    until(lambda: (tmp_path / "log").exists() and "left" in ran(tmp_path))
    os.killpg(begun.pid, told) if told == signal.SIGINT else os.kill(begun.pid, told)
    _, said = begun.communicate(timeout=30)
    assert begun.returncode == 1 and said.strip() == "stopped; the same command goes on from here"
    assert not [one for one in psutil.process_iter(["cmdline"]) if str(SLEEP) in (one.info["cmdline"] or [])]
    (tmp_path / "again").touch()
    subprocess.run([sys.executable, "-c", run], cwd=tmp_path, env=around, check=True)
    assert clean(tmp_path) and ran(tmp_path).count("first") == 1


@pytest.mark.parametrize(
    ("cores", "free", "device", "number"), [(2, 9, "cpu", 2), (1, 9, "cpu", 1), (8, 7, "cpu", 1), (8, 99, "cuda", 1)]
)
def test_two_stages_run_together_where_there_is_room(monkeypatch, cores, free, device, number):
    monkeypatch.setattr(needs.os, "cpu_count", lambda: cores)
    monkeypatch.setattr(needs, "memory_needed", lambda settings: 4.0)
    monkeypatch.setattr("ctp_lib.machine.preflight.available", lambda settings: free * 10**9)
    monkeypatch.setattr("ctp_lib.model.loading.device", lambda name: torch.device(device))
    assert needs.together(SimpleNamespace(device="auto")) == number


def test_two_engines_do_not_work_in_one_folder(tmp_path):
    with engine.alone(tmp_path), pytest.raises(ParameterError, match="another `make repro` is at work"), engine.alone(tmp_path):
        pass


def test_jobs_of_slurm_alone_are_remembered_for_the_next_engine(tmp_path):
    """A process of this machine has a number too, which on a cluster may be anybody's job."""
    run = engine.Engine(nx.DiGraph(), set(), None, tmp_path, 1)
    run.running = {"left": submitit.LocalJob(tmp_path, "41", [0]), "right": submitit.SlurmJob(tmp_path, "42", [0])}
    run.tried = {"left": 1, "right": 3}
    run._remember()
    assert json.loads((tmp_path / "running.json").read_text()) == {"right": ["42", 3]}


def test_a_list_of_locks_that_a_kill_left_half_written_stops_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(project(tmp_path))
    path = tmp_path / locks.FILE
    path.write_text("")
    refused = subprocess.run([sys.executable, "-m", "dvc", "repro"], cwd=tmp_path, capture_output=True, text=True)
    assert refused.returncode != 0 and "RWLock-file" in refused.stderr, "else this is not needed any more"
    assert locks.mend(tmp_path) and not path.exists() and not locks.mend(tmp_path)
    path.write_text('{"write": {}}')
    assert not locks.mend(tmp_path) and path.exists(), "what is in use stays"


# ---------------------------------------------------------------------------------------------------------- a real SLURM

CONF = """ClusterName=here
SlurmctldHost={host}(127.0.0.1)
AuthType=auth/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/ctld.pid
SlurmdPidFile={folder}/d.pid
SlurmctldLogFile={folder}/ctld.log
SlurmdLogFile={folder}/d.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
KillWait=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """A cluster of one node, which is this machine."""
    if not all(shutil.which(name) for name in ("slurmctld", "slurmd", "sbatch", "munged")) or os.geteuid() != 0:
        pytest.skip("SLURM and munge are not installed, or this is not root: `apt-get install slurm-wlm munge`")
    folder, host = tmp_path_factory.mktemp("slurm"), socket.gethostname()
    for name in ("state", "spool"):
        (folder / name).mkdir()
    (folder / "slurm.conf").write_text(CONF.format(host=host, folder=folder, cpus=os.cpu_count()))
    Path("/run/munge").mkdir(exist_ok=True)
    shutil.chown("/run/munge", "munge", "munge")
    own = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
    munged = subprocess.run(["pgrep", "munged"], capture_output=True).returncode != 0
    if munged:
        subprocess.run(["runuser", "-u", "munge", "--", "munged"], check=True)
    for daemon in ("slurmctld", "slurmd"):
        subprocess.run([daemon], check=True, env=own)
    os.environ["SLURM_CONF"] = own["SLURM_CONF"]
    for _ in range(60):
        if "idle" in subprocess.run(["sinfo", "-h", "-o", "%T"], capture_output=True, text=True).stdout:
            break
        time.sleep(0.5)
    else:
        pytest.fail((folder / "ctld.log").read_text()[-2000:])
    yield folder
    for pid in ("d.pid", "ctld.pid"):
        os.kill(int((folder / pid).read_text()), signal.SIGTERM)
    os.environ.pop("SLURM_CONF")


def jobs() -> dict[str, str]:
    """The ids of running jobs by their names."""
    found = subprocess.run(["squeue", "-h", "-t", "RUNNING", "-o", "%j %i"], capture_output=True, text=True).stdout
    return dict(line.split() for line in found.splitlines())


def until(asked, seconds: float = 90.0):
    for _ in range(int(seconds / 0.2)):
        if found := asked():
            return found
        time.sleep(0.2)
    raise AssertionError("it did not happen in time")


def on_slurm(folder: Path) -> subprocess.Popen:
    code = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from test_engine import an_engine
an_engine(Path({str(folder)!r}), "slurm").run(poll=0.3)
"""
    return subprocess.Popen(
        [sys.executable, "-c", code], cwd=folder, stdout=(folder / "engine.log").open("a"), stderr=subprocess.STDOUT
    )


@pytest.mark.long
def test_on_slurm_killed_and_preempted_jobs_and_a_dead_engine_lose_nothing(slurm, tmp_path):
    """One job is killed, one is preempted, and so is the engine itself; all comes out as if it had run alone."""
    project(tmp_path, first="sleep 6", left="sleep 6", right="sleep 6")
    run = on_slurm(tmp_path)
    first = until(lambda: jobs().get("first"))
    until(lambda: (tmp_path / "log").exists() and "first" in ran(tmp_path))
    subprocess.run(["scancel", "--signal=KILL", first], check=True)
    until(lambda: ran(tmp_path).count("first") == 2)
    left = until(lambda: jobs().get("left"))
    until(lambda: "left" in ran(tmp_path))
    run.kill()
    run.wait()
    subprocess.run(["scontrol", "requeue", left], check=True)
    run = on_slurm(tmp_path)
    assert run.wait(timeout=180) == 0, (tmp_path / "engine.log").read_text()
    told = (tmp_path / "engine.log").read_text()
    assert "first: vanished, and is sent again" in told and "left: job" in told and "is taken over" in told
    counts = {name: ran(tmp_path).count(name) for name in STAGES}
    assert counts["other"] == counts["last"] == 1 and counts["first"] == 2 and counts["left"] <= 3
    assert (tmp_path / "last.txt").read_text().split() == ["first", "left", "first", "right", "last"] and clean(tmp_path)
