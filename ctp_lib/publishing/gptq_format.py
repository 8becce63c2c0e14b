"""Matrices that lie on a grid of a few bits, packed as GPTQ checkpoints are, for transformers, vLLM and gptqmodel.

The format: codes of ``bits`` bits run down a column of the transposed matrix as one stream, 32 bits a word, lowest first; zero points
likewise along a row; scales in fp16. It is the second version (``gptq_v2``): the first stores every zero point less one, which readers
took for an overflow where it was zero.
"""

from typing import Any

import torch
from compressed_tensors.quantization.utils import calculate_qparams
from torch import Tensor

from ctp_lib.compression.grid import asymmetric
from ctp_lib.settings.spec import ParameterError

WIDTHS = (2, 3, 4, 8)
"""Bits that readers of the format know."""
OFF_GRID = 5e-3
"""Of its size: how far a weight that was saved in 16 bits may lie from its grid point; bf16 rounds by up to 0.0039."""


def pack(name: str, compressed: Tensor, dense: Tensor, bits: int) -> dict[str, Tensor]:
    """The tensors of one matrix (rows x columns) whose ``compressed`` weights lie on the grid of its ``dense`` ones.

    ``dense`` has the dtype in which the solver looked for its grid. The result:
    ``qweight`` int32, columns x bits / 32 x rows; ``qzeros`` int32, 1 x rows x bits / 32; ``scales`` fp16, 1 x rows; ``g_idx`` int32,
    columns. Raises :class:`ParameterError` where the format cannot hold the matrix.
    """
    rows, columns = compressed.shape
    if bits not in WIDTHS or rows * bits % 32 or columns * bits % 32:
        raise ParameterError(
            f"{name} is {rows} x {columns} at {bits} bits; the GPTQ format takes {', '.join(map(str, WIDTHS))} bits, and sides that are "
            "multiples of 32 bits; publish a level that fits"
        )
    codes, scale, zero = _codes(name, compressed.float(), dense, bits)
    return {
        f"{name}.qweight": _stream(codes.T, bits),
        f"{name}.qzeros": _stream(zero, bits).T.contiguous(),
        f"{name}.scales": scale.T.half().contiguous(),
        f"{name}.g_idx": torch.zeros(columns, dtype=torch.int32),
    }


def settings(bits: int, dampening: float) -> dict[str, Any]:
    """The ``quantization_config`` of such a checkpoint: one group a row, asymmetric."""
    return {
        "quant_method": "gptq", "checkpoint_format": "gptq_v2", "bits": bits, "group_size": -1, "sym": False, "desc_act": False,
        "damp_percent": dampening, "true_sequential": True, "lm_head": False,
    }  # fmt: skip


def _codes(name: str, compressed: Tensor, dense: Tensor, bits: int) -> tuple[Tensor, Tensor, Tensor]:
    """Codes of every weight, and scale and zero point of every row (rows x 1), all unsigned. The scale is fitted to the codes."""
    scale, zero = calculate_qparams(dense.amin(1, keepdim=True), dense.amax(1, keepdim=True), asymmetric(bits))
    middle = 2 ** (bits - 1)  # the library counts from the middle
    scale, zero = scale.float(), zero.int() + middle
    steps = torch.round(compressed / scale)
    counted = steps.square().sum(1, keepdim=True)
    scale = torch.where(counted > 0, (compressed * steps).sum(1, keepdim=True) / counted.clamp(min=1), scale)
    codes = steps.int() + zero
    off = (compressed - steps * scale).abs() > OFF_GRID * scale * steps.abs().clamp(min=1)
    if off.any() or codes.min() < 0 or codes.max() >= 2**bits:
        raise ParameterError(
            f"{name} does not lie on the {bits}-bit grid of the model it was made from; compress that model again, or publish another level"
        )
    return codes, scale, zero


def _stream(codes: Tensor, bits: int) -> Tensor:
    """``codes`` (number x rows) as words of 32 bits down each column: int32, number x bits / 32 x rows."""
    spread = (codes[:, None] >> torch.arange(bits, dtype=codes.dtype)[:, None]) & 1
    words = spread.reshape(-1, 32, codes.shape[1]).long() << torch.arange(32)[:, None]
    words = words.sum(1)
    return torch.where(words >= 2**31, words - 2**32, words).int()
