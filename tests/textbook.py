"""The published algorithms, column by column in float64, written from the papers and slow on purpose.

GPTQ: Frantar et al. 2022, algorithm 1 with activation order and without lazy batches. SparseGPT: Frantar & Alistarh 2023, algorithm 1.
Both invert the Hessian afresh for the columns that are left instead of using a Cholesky factor, so that nothing of the fast
formulation is shared with the code under test.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ctp_lib.study import Level


def hessian(inputs: Tensor, damping: float) -> Tensor:
    """H = 2 X^T X / samples (any positive factor gives the same result) with ``damping`` x mean diagonal added."""
    inputs = inputs.double()
    matrix = 2 * inputs.T @ inputs / len(inputs)
    return matrix + damping * matrix.diagonal().mean() * torch.eye(len(matrix), dtype=torch.float64)


def grid(weight: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Scale and integer zero point of each row: min-max with zero included."""
    low, high = weight.amin(1).clamp(max=0), weight.amax(1).clamp(min=0)
    scale = (high - low) / (2**bits - 1)
    return scale, torch.round(-low / scale)


def to_grid(column: Tensor, scale: Tensor, zero: Tensor, bits: int) -> Tensor:
    return scale * (torch.clamp(torch.round(column / scale) + zero, 0, 2**bits - 1) - zero)


def compress(weight: Tensor, inputs: Tensor, level: Level, *, damping: float = 0.01, block: int = 128) -> Tensor:
    """Compress one matrix (rows x columns) that sees ``inputs`` (samples x columns)."""
    weight, H = weight.double().clone(), hessian(inputs, damping)
    order = torch.argsort(H.diagonal(), descending=True) if level.family == "quantised" else torch.arange(len(H))
    weight, H = weight[:, order], H[order][:, order]
    scale, zero = grid(weight, level.bits) if level.bits else (None, None)
    prune = torch.zeros_like(weight, dtype=torch.bool)
    for column in range(weight.shape[1]):
        inverse = torch.linalg.inv(H[column:, column:])
        if level.sparsity and not level.pattern and column % block == 0:
            prune[:, column : column + block] = _smallest(weight, H, column, min(block, weight.shape[1] - column), level.sparsity)
        if level.pattern and column % level.pattern[1] == 0:
            prune[:, column : column + level.pattern[1]] = _smallest_of_group(weight, H, column, level.pattern)
        dense = weight[:, column].clone()
        new = to_grid(dense, scale, zero, level.bits) if level.bits else dense.clone()
        new[prune[:, column]] = 0
        weight[:, column + 1 :] -= ((dense - new) / inverse[0, 0])[:, None] * inverse[0, 1:]
        weight[:, column] = new
    return weight[:, torch.argsort(order)]


def _scores(weight: Tensor, H: Tensor, first: int, number: int) -> Tensor:
    """w^2 / [H^-1]_cc, the inverse being that of the columns from c on (the OBS saliency when c's turn has come)."""
    diagonal = torch.stack([torch.linalg.inv(H[c:, c:])[0, 0] for c in range(first, first + number)])
    return weight[:, first : first + number] ** 2 / diagonal


def _smallest(weight: Tensor, H: Tensor, first: int, number: int, sparsity: float) -> Tensor:
    scores = _scores(weight, H, first, number)
    return scores <= scores.flatten().sort().values[int(scores.numel() * sparsity)]


def _smallest_of_group(weight: Tensor, H: Tensor, first: int, pattern: tuple[int, int]) -> Tensor:
    scores = _scores(weight, H, first, pattern[1])
    chosen = scores.topk(pattern[1] - pattern[0], dim=1, largest=False).indices
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(1, chosen, True)
