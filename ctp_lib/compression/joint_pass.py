"""Pruning and quantising in one pass, the paper's joint model.

SparseGPT with a quantiser in its column loop (Frantar & Alistarh 2023, section 3.5): a column's pruned weights
become zero, the others are rounded to their row's grid, and the error of both moves on to the columns that are still to come.
llmcompressor lets a later quantiser refill the zeros, so this pass is a modifier of ours in its pipeline.
"""

import torch
from compressed_tensors.offload import update_offload_parameter
from compressed_tensors.quantization import fake_quantize
from compressed_tensors.quantization.utils import calculate_qparams
from llmcompressor.modifiers.pruning.sparsegpt import SparseGPTModifier
from torch import Tensor

from ctp_lib.compression.grid import asymmetric


def inverse_factor(hessian: Tensor, dampening: float) -> Tensor:
    """The upper Cholesky factor of the inverse of the damped Hessian, columns x columns, fp32 or fp64.

    ``dampening`` is a share of the mean diagonal. Raises :class:`torch.linalg.LinAlgError` when the Hessian is not positive definite even so.
    """
    damped = hessian + dampening * hessian.diagonal().mean() * torch.eye(len(hessian), dtype=hessian.dtype, device=hessian.device)
    return torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(damped)), upper=True)


def prune_and_quantise(
    weight: Tensor,
    hessian: Tensor,
    *,
    sparsity: float,
    pattern: tuple[int, int] | None,
    bits: int,
    dampening: float,
    block_size: int,
) -> Tensor:
    """The compressed copy of ``weight`` (rows x columns), given ``hessian`` (columns x columns), both fp32.

    Scales and zero points are those of the dense rows. The mask is chosen for each block of ``block_size`` columns over the
    whole block: the smallest w^2 / d^2, d being the diagonal of the inverse factor; with ``pattern`` (n, m), the m - n
    smallest of every m in a row.
    """
    weight, hessian = weight.clone(), hessian.clone()
    dead = hessian.diagonal() == 0
    hessian[dead, dead] = 1
    grid = asymmetric(bits)
    scale, zero_point = calculate_qparams(weight.amin(1, keepdim=True), weight.amax(1, keepdim=True), grid)
    weight[:, dead] = 0
    factor = inverse_factor(hessian, dampening)
    for first in range(0, weight.shape[1], block_size):
        last = min(first + block_size, weight.shape[1])
        block, local = weight[:, first:last], factor[first:last, first:last]
        errors = torch.zeros_like(block)
        mask = None if pattern else _smallest(block, local, sparsity)
        for column in range(last - first):
            if pattern and column % pattern[1] == 0:
                group = slice(column, column + pattern[1])
                pruned = _smallest_of_group(block[:, group], local.diagonal()[group], pattern)
            prune = mask[:, column] if mask is not None else pruned[:, column % pattern[1]]
            dense = block[:, column].clone()
            rounded = fake_quantize(dense[:, None], scale, zero_point, grid)[:, 0].masked_fill(prune, 0.0)
            errors[:, column] = (dense - rounded) / local[column, column]
            block[:, column:] -= errors[:, column, None] * local[column, column:]
            block[:, column] = rounded
        weight[:, last:] -= errors @ factor[first:last, last:]
    return weight


def _smallest(block: Tensor, factor: Tensor, sparsity: float) -> Tensor:
    score = (block / factor.diagonal()) ** 2
    threshold = score.flatten().sort().values[int(score.numel() * sparsity)]
    return score <= threshold


def _smallest_of_group(group: Tensor, diagonal: Tensor, pattern: tuple[int, int]) -> Tensor:
    kept, size = pattern
    score = (group / diagonal) ** 2
    smallest = score.topk(min(size - kept, score.shape[1]), dim=1, largest=False).indices
    return torch.zeros_like(score, dtype=torch.bool).scatter_(1, smallest, True)


class JointModifier(SparseGPTModifier):
    """SparseGPT's calibration with :func:`prune_and_quantise` as the solver. ``bits`` is the width of the grid."""

    bits: int

    def compress_modules(self) -> None:
        """Compress the modules that were calibrated; llmcompressor calls it after each of its sequential steps."""
        for module in list(self._num_samples):
            compressed = prune_and_quantise(
                module.weight.detach().float(),
                self._hessians.pop(module),
                sparsity=self.sparsity,
                pattern=(self._prune_m - self._prune_n, self._prune_m) if self._prune_m else None,
                bits=self.bits,
                dampening=self.dampening_frac,
                block_size=self.block_size,
            )
            update_offload_parameter(module, "weight", compressed.to(module.weight.dtype))
            del self._num_samples[module]
