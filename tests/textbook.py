"""The published algorithms, column by column in float64, written from the papers and slow on purpose.

GPTQ: Frantar et al. 2022, algorithm 1 with activation order and without lazy batches. SparseGPT: Frantar & Alistarh 2023, algorithm 1.
Wanda: Sun et al. 2023, equation 1. The first two invert the Hessian afresh for the columns that are left instead of using a Cholesky
factor, so that nothing of the fast formulation is shared with the code under test.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ctp_lib.settings.levels import Level


def hessian(inputs: Tensor, damping: float) -> Tensor:
    """H = 2 X^T X / samples (any positive factor gives the same result) with ``damping`` x mean diagonal added."""
    inputs = inputs.double()
    matrix = 2 * inputs.T @ inputs / len(inputs)
    return matrix + damping * matrix.diagonal().mean() * torch.eye(len(matrix), dtype=torch.float64)


def grid(weight: Tensor, bits: int, group: int | None = None) -> tuple[Tensor, Tensor]:
    """Scale and integer zero point of every weight, those of its row or of its group of columns in it: min-max with zero included."""
    parts = weight.split(group or weight.shape[1], dim=1)
    scales, zeros = [], []
    for part in parts:
        low, high = part.amin(1, keepdim=True).clamp(max=0), part.amax(1, keepdim=True).clamp(min=0)
        scale = (high - low) / (2**bits - 1)
        scales.append(scale.expand_as(part))
        zeros.append(torch.round(-low / scale).expand_as(part))
    return torch.cat(scales, 1), torch.cat(zeros, 1)


def to_grid(column: Tensor, scale: Tensor, zero: Tensor, bits: int) -> Tensor:
    return scale * (torch.clamp(torch.round(column / scale) + zero, 0, 2**bits - 1) - zero)


def compress(weight: Tensor, inputs: Tensor, level: Level, *, damping: float = 0.01, block: int = 128) -> Tensor:
    """Compress one matrix (rows x columns) that sees ``inputs`` (samples x columns)."""
    if level.by in SIMPLE:
        return SIMPLE[level.by](weight.double(), inputs.double(), level)
    weight, H = weight.double().clone(), hessian(inputs, damping)
    order = torch.argsort(H.diagonal(), descending=True) if level.family == "quantised" else torch.arange(len(H))
    scale, zero = (part[:, order] for part in grid(weight, level.bits, level.group)) if level.bits else (None, None)
    weight, H = weight[:, order], H[order][:, order]
    prune = torch.zeros_like(weight, dtype=torch.bool)
    for column in range(weight.shape[1]):
        inverse = torch.linalg.inv(H[column:, column:])
        if level.sparsity and not level.pattern and column % block == 0:
            prune[:, column : column + block] = _smallest(weight, H, column, min(block, weight.shape[1] - column), level.sparsity)
        if level.pattern and column % level.pattern[1] == 0:
            prune[:, column : column + level.pattern[1]] = _smallest_of_group(weight, H, column, level.pattern)
        dense = weight[:, column].clone()
        new = to_grid(dense, scale[:, column], zero[:, column], level.bits) if level.bits else dense.clone()
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


def rounded(weight: Tensor, inputs: Tensor, level: Level) -> Tensor:
    """Every weight to the nearest point of its grid."""
    return to_grid(weight, *grid(weight, level.bits, level.group), level.bits)


def smallest_gone(weight: Tensor, scores: Tensor, level: Level, by_row: bool) -> Tensor:
    """Weights with the smallest scores become zero: one after the other, in a matrix, a row, or a group of n:m."""
    kept = weight.clone()
    size = level.pattern[1] if level.pattern else weight.shape[1] if by_row else weight.numel()
    going = size - level.pattern[0] if level.pattern else int(size * level.sparsity)
    for values, of in zip(kept.view(-1, size), scores.reshape(-1, size), strict=True):
        for place in sorted(range(size), key=lambda n, of=of: of[n].item())[:going]:
            values[place] = 0
    return kept


def exchanged(weight: Tensor, inputs: Tensor, level: Level) -> Tensor:
    """DSnoT (Zhang et al. 2023) from Wanda's mask, a row and an exchange after the other: 50 at most, while the expected error is above 0.1."""
    norm, mean, variance = inputs.norm(dim=0), inputs.mean(0), inputs.var(0, correction=0)
    found = smallest_gone(weight, weight.abs() * norm, level, by_row=True)
    for row, dense in zip(found, weight, strict=True):
        gone = {column for column in range(len(row)) if row[column] == 0}
        new, used = set(gone), set()
        error = sum(dense[column] * mean[column] for column in gone)
        first = torch.sign(torch.as_tensor(error))
        for _ in range(50):
            pruned = [column for column in new - used]
            if abs(error) <= 0.1 or not pruned:
                break
            grow = max(pruned, key=lambda column: (first * dense[column] * mean[column] / variance[column]).item())
            kept = [column for column in range(len(row)) if column not in new and column not in used]
            if level.pattern:
                kept = [column for column in kept if column // level.pattern[1] == grow // level.pattern[1]]
            else:
                kept = [column for column in kept if first * dense[column] * mean[column] < 0]
            if not kept:
                break
            prune = min(kept, key=lambda column: (abs(dense[column]) * norm[column]).item())
            after = error - dense[grow] * mean[grow] + dense[prune] * mean[prune]
            if torch.sign(after) != first:
                break
            error, new, used = after, new - {grow} | {prune}, used | {grow, prune}
        for column in range(len(row)):
            row[column] = 0 if column in new else dense[column]
    return found


SIMPLE = {
    "dsnot": exchanged,
    "rtn": rounded,
    "magnitude": lambda weight, inputs, level: smallest_gone(weight, weight.abs(), level, by_row=False),
    "wanda": lambda weight, inputs, level: smallest_gone(weight, weight.abs() * inputs.norm(dim=0), level, by_row=True),
}
