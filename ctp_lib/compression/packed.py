"""Folders that GPTQ or AWQ packed, as dense weights: their integers lie side by side in words of 32 bits, the first in the lowest bits."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from ctp_lib.settings.spec import ParameterError

AWQ_COLUMNS = [0, 4, 1, 5, 2, 6, 3, 7]
"""Where each of eight neighbouring columns lies in a word, by AutoAWQ's kernel (version ``gemm``)."""


def unpacked(folder: Path, how: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights of ``folder`` by name, each packed matrix (``qweight``, ``qzeros``, ``scales``) as one ``weight``, out x in.

    ``how`` is the model's ``quantization_config``. Raises :class:`ParameterError` for a packing that is not known.
    """
    version = str(how.get("version", "gemm") if how["quant_method"] == "awq" else how.get("checkpoint_format", "gptq")).lower()
    if version not in ("gemm", "gptq", "gptq_v2"):
        raise ParameterError(f"{folder} is packed by {how['quant_method']} as {version}, which is not read here; bring it dense")
    tensors: dict[str, Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        tensors |= load_file(path)
    for name in [name.removesuffix(".qweight") for name in tensors if name.endswith(".qweight")]:
        parts = {part: tensors.pop(f"{name}.{part}", None) for part in ("qweight", "qzeros", "scales", "g_idx")}
        tensors[f"{name}.weight"] = _dense(**parts, bits=how["bits"], version=version)
    return tensors


def _dense(qweight: Tensor, qzeros: Tensor, scales: Tensor, g_idx: Tensor | None, *, bits: int, version: str) -> Tensor:
    zeros = _integers(qzeros.T, bits).T
    if version == "gemm":
        values = _integers(qweight.T, bits).T
        values, zeros = (_in_order(found) for found in (values, zeros))
    else:
        values = _integers(qweight, bits)
        zeros = zeros + (version == "gptq")  # the first version stores them one too low
    if g_idx is None:
        g_idx = torch.arange(len(values)) // (len(values) // len(scales))
    groups = g_idx.long()
    return (scales[groups].float() * (values - zeros[groups])).T.to(scales.dtype).contiguous()


def _integers(words: Tensor, bits: int) -> Tensor:
    """What ``words`` hold, down each column: (32 / bits * words) x columns. Three bits run on from one word into the next."""
    found = np.unpackbits(words.T.contiguous().numpy().view(np.uint8), axis=1, bitorder="little")
    found = found.reshape(len(found), -1, bits) @ (1 << np.arange(bits))
    return torch.from_numpy(found.astype(np.int32)).T


def _in_order(values: Tensor) -> Tensor:
    return values.unflatten(1, (-1, 8))[:, :, AWQ_COLUMNS].flatten(1)
