"""Tensors on disk that only this library reads: states of a training, and of the uncompressed model. With a digest, so that damage is found."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ctp_lib.settings import paths
from ctp_lib.settings.spec import ParameterError


def save(path: Path, tensors: dict[str, Tensor], values: Any = None) -> None:
    """Write ``tensors`` and JSON-able ``values`` to ``path``, replacing what was there in one step."""
    contiguous = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    text = json.dumps(values)
    with paths.replacing(path) as incoming:
        save_file(contiguous, incoming, metadata={"values": text, "digest": _digest(contiguous, text)})


def load(path: Path) -> tuple[dict[str, Tensor], Any]:
    """Read back what :func:`save` wrote. Raises :class:`ParameterError` for a damaged file."""
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            said = file.metadata() or {}
        if said["digest"] != _digest(tensors, said["values"]):
            raise ValueError("it is not what was written")
        return tensors, json.loads(said["values"])
    except (SafetensorError, KeyError, ValueError) as error:
        raise ParameterError(f"{path} is damaged ({error}); delete it and run again") from None


def _digest(tensors: dict[str, Tensor], text: str) -> str:
    whole = hashlib.sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        whole.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        whole.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return whole.hexdigest()
