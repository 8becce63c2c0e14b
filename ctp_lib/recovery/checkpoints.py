"""State of an unfinished computation on disk: tensors and plain values, never pickled.

A checkpoint is one safetensors file. It is written under a temporary name and renamed when complete, so a
killed writer leaves the previous checkpoint intact.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ctp_lib.settings import paths


def save(path: Path, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
    """Write ``tensors`` and JSON-able ``values`` to ``path``, replacing what was there in one step."""
    contiguous = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    with paths.replacing(path) as incoming:
        save_file(contiguous, incoming, metadata={"values": json.dumps(values)})


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read back what :func:`save` wrote. Raises :class:`ValueError` for a damaged file."""
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            return tensors, json.loads((file.metadata() or {})["values"])
    except (SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: not a readable checkpoint ({error}); delete it and run again") from None


def pack_optimizer(optimizer: torch.optim.Optimizer, prefix: str) -> dict[str, Tensor]:
    """The tensors of an optimizer's state, named ``<prefix>.<parameter number>.<state name>``."""
    state = optimizer.state_dict()["state"]
    return {
        f"{prefix}.{number}.{name}": torch.as_tensor(value) for number, entries in state.items() for name, value in entries.items()
    }


def unpack_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], prefix: str) -> None:
    """Put back what :func:`pack_optimizer` took; learning rates are the caller's business."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        if key.startswith(prefix + "."):
            number, name = key.removeprefix(prefix + ".").split(".", 1)
            state.setdefault(int(number), {})[name] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
