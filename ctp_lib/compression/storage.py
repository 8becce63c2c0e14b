"""What a compressed matrix holds, and the bits it takes when packed.

"8x" for 4 bits at 50 % sparsity counts neither the mask nor the scales. This module counts all that a file needs
to give the dense matrix back.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ctp_lib.settings.levels import Level

FLOAT_BITS = 16
"""Bits of an uncompressed weight, and of a scale."""


def inspect(weights: Mapping[str, Tensor]) -> list[dict[str, Any]]:
    """What was reached in each matrix (rows x columns): its share of zeros, and the most distinct values in a row."""
    found = []
    for name, weight in weights.items():
        reached = {"sparsity": (weight == 0).float().mean().item(), "distinct_values": _most_distinct(weight)}
        found.append({"name": name, "rows": weight.shape[0], "columns": weight.shape[1], **reached})
    return found


def mask_digest(weights: Mapping[str, Tensor]) -> str:
    """A SHA-256 of where the zeros are, over all matrices in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update((weights[name] == 0).cpu().numpy().tobytes())
    return digest.hexdigest()


def packed_bits(weight: Tensor, level: Level) -> int:
    """Bits that the matrix (rows x columns) takes on disk at ``level``.

    Quantised: a code for every weight, and for every row, or every group of columns in it, a 16-bit scale and a zero point as wide as a
    code. Pruned: the weights that are left (16 bits, or a code) and the mask. An unstructured mask takes one bit a weight; n:m takes
    the position of each kept weight in its group, as GPUs read it.
    """
    rows, columns = weight.shape
    code = FLOAT_BITS if level.bits is None else level.bits
    groups = rows * (columns // level.group if level.group else 1)
    grid = 0 if level.bits is None else groups * (FLOAT_BITS + level.bits)
    if not level.sparsity:
        return rows * columns * code + grid
    if level.pattern:
        kept = rows * columns * level.pattern[0] // level.pattern[1]
        return kept * (code + (level.pattern[1] - 1).bit_length()) + grid
    return _kept_by_mask(weight, level) * code + rows * columns + grid


def _kept_by_mask(weight: Tensor, level: Level) -> int:
    """Weights outside the mask. A kept weight that was rounded to zero still has a code, so joint levels count the asked share."""
    nonzero = int((weight != 0).sum())
    return nonzero if level.bits is None else max(nonzero, round(weight.numel() * (1 - level.sparsity)))


def _most_distinct(weight: Tensor) -> int:
    ordered = weight.sort(dim=1).values
    return int((ordered.diff(dim=1) != 0).sum(1).max()) + 1
