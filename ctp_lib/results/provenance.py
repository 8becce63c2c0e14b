"""Where, when and with what something was made: it changes with every run, so it is never kept beside a number."""

import importlib.metadata
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch

RECORDED_PACKAGES = ("torch", "transformers", "llmcompressor", "compressed-tensors", "peft", "tokenizers", "numpy")


@dataclass
class Cost:
    """What a piece of work took; ``seconds`` and ``peak_memory_bytes`` are filled in when it ends."""

    work: str
    tokens: int = 0
    seed: int | None = None
    seconds: float = 0.0
    peak_memory_bytes: int = 0

    def record(self) -> dict[str, Any]:
        """The figures by the names of ``cost.csv``."""
        speed = self.tokens / self.seconds if self.seconds else 0.0
        return {**vars(self), "tokens_per_second": speed}


@contextmanager
def measured(work: str, tokens: int = 0, seed: int | None = None) -> Iterator[Cost]:
    """Time the block and take the peak of memory, in bytes.

    On CUDA that is what torch allocated during the block; on CPU what the process held at most since it began, imports included.
    """
    cost = Cost(work, tokens, seed)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    yield cost
    cost.seconds = time.perf_counter() - started
    cost.peak_memory_bytes = _peak_memory()


def synchronise() -> None:
    """Wait for the GPU, NVIDIA's or Apple's, where there is one."""
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds that ``work`` takes, with all that it leaves to a GPU, and what it gives."""
    synchronise()
    started = time.perf_counter()
    found = work()
    synchronise()
    return time.perf_counter() - started, found


def provenance(root: Path) -> dict[str, Any]:
    """Where and with what this process runs; ``root`` is the project's folder. What git does not tell is ``unknown``."""
    state = git(root, "status", "--porcelain", "--untracked-files=no", "--", "ctp_lib", "notebooks", "params.yaml")
    return {
        "commit": git(root, "rev-parse", "HEAD") or "unknown",
        "dirty": "unknown" if state is None else bool(state),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "packages": {name: importlib.metadata.version(name) for name in RECORDED_PACKAGES},
    }


def git(root: Path, *arguments: str) -> str | None:
    """What git says in ``root``; None where it says no: there is no checkout, it is somebody else's, or there is no git."""
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    named = re.search(r"^model name\s*: (.*)", cpuinfo.read_text(), re.MULTILINE) if cpuinfo.exists() else None
    return named[1].strip() if named else platform.processor()


def _peak_memory() -> int:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset
    import resource  # of Unix alone

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
