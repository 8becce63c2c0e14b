"""What a stage of the graph asks of the machine that runs it: of SLURM by ``cluster.yaml``, here by what the study's models take."""

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic.dataclasses
from pydantic import Field
from ruamel.yaml import YAML, YAMLError

from ctp_lib.settings import study
from ctp_lib.settings.spec import SPEC, Count, ParameterError, Positive, first_line, require

RESOURCES = "cluster.yaml"
TOGETHER = 2
"""Stages at a time here, where there is room: with one thread each, two of the small model's take three fifths of the time."""


@pydantic.dataclasses.dataclass(**SPEC)
class Needs:
    """What a stage asks of SLURM. ``auto`` memory is what preflight counts."""

    gpus: Annotated[int, Field(ge=0)]
    cpus: Count
    memory_gb: Positive | Literal["auto"]
    minutes: Count


@pydantic.dataclasses.dataclass(**SPEC)
class Cluster:
    """``cluster.yaml``: the ``default`` of all stages, what some have in its place, and what else sbatch is told."""

    default: Needs
    stages: Mapping[str, Mapping[str, Any]] | None = None
    slurm: Mapping[str, Any] | None = None


def cluster(path: Path, stages: Collection[str]) -> Cluster:
    """``cluster.yaml``. Raises :class:`ParameterError` where it is missing, unreadable, or names a stage that is not among ``stages``."""
    if not path.exists():
        raise ParameterError(f"{path} is not there; it says what a stage asks of SLURM")
    try:
        told = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except YAMLError as error:
        raise ParameterError(f"{path.name} cannot be read: {first_line(error)}") from None
    require(isinstance(told, dict) and "default" in told, path.name, told, "sections, with default among them")
    found, known = study.with_settings(Cluster, told, f"{path.name}: "), {name.partition("@")[0] for name in stages}
    for name in found.stages or {}:
        require(name in known, f"{path.name}: stages", name, f"one of {', '.join(sorted(known))}")
        needed(found, name)
    return found


def needed(told: Cluster, stage: str) -> Needs:
    """What ``stage`` asks for: its own, else the default."""
    own = (told.stages or {}).get(stage.partition("@")[0], {})
    default = {name: getattr(told.default, name) for name in Needs.__dataclass_fields__}
    return study.with_settings(Needs, {**default, **own}, f"{RESOURCES}: {stage}: ")


def submitted(told: Cluster, stage: str, memory_gb: float) -> dict[str, Any]:
    """The same in submitit's words; ``auto`` memory is ``memory_gb``."""
    asked = needed(told, stage)
    memory = memory_gb if asked.memory_gb == "auto" else asked.memory_gb
    common = {"timeout_min": asked.minutes, "mem_gb": memory, "cpus_per_task": asked.cpus}
    common |= {"gpus_per_node": asked.gpus} if asked.gpus else {}
    return common | {f"slurm_{name}": value for name, value in (told.slurm or {}).items()}


def memory_needed(settings: study.Study) -> float:
    """Gigabytes of the largest piece of work of any model, a quarter more, and three for Python and its packages."""
    from ctp_lib.machine import preflight

    needed = [preflight.needs(preflight.on_shapes(settings.model(name)), settings) for name in settings.study.models]
    return round(3 + 1.25 * max(size for one in needed for size in one.memory.values()) / 1e9, 1)


def together(settings: study.Study) -> int:
    """How many stages run at a time here: two on a CPU with the cores and the memory for it, else one."""
    from ctp_lib.machine import preflight
    from ctp_lib.model import loading

    if settings.device == loading.SPREAD or loading.device(settings.device).type != "cpu" or (os.cpu_count() or 1) < TOGETHER:
        return 1
    return TOGETHER if TOGETHER * memory_needed(settings) < preflight.available(settings) / 1e9 else 1
