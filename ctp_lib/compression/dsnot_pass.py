"""Which weights DSnoT (Zhang et al. 2023) prunes in place of others, from a mask that is there; no weight changes its value.

A pruned row gives, on a mean input, less than the dense one by the sum of its pruned weights times that input: the expected error. In every
cycle, a row restores the pruned weight that moves the error most towards zero, relative to the variance of its input (equation 5). It then
prunes the kept weight with the lowest Wanda score whose removal also moves the error towards zero (equation 6).
"""

import torch
from llmcompressor.modifiers.pruning import WandaPruningModifier
from pydantic import PrivateAttr
from torch import Tensor, nn

CYCLES, THRESHOLD = 50, 0.1
"""Exchanges in a row at most, and the expected error at which it is left alone: those of the released code."""


def exchanged(
    weight: Tensor, pruned: Tensor, mean: Tensor, variance: Tensor, norm: Tensor, pattern: tuple[int, int] | None = None
) -> Tensor:
    """The mask (bool, true where a weight goes) that ``pruned`` becomes: rows x columns, as ``weight``, with as many in every row.

    ``mean``, ``variance`` and ``norm`` (the l2 norm) are those of each column's input. With ``pattern``, n of m kept, a weight is exchanged
    for one of its own m, of whatever effect. No weight is exchanged twice. A row stops before its error would change sign.
    """
    pruned, effect = pruned.clone(), weight * mean
    error = (effect * pruned).sum(1)
    sign, rows, columns = (
        error.sign(),
        torch.arange(len(weight), device=weight.device),
        torch.arange(weight.shape[1], device=weight.device),
    )
    towards, active = sign[:, None] * effect, torch.ones_like(error, dtype=torch.bool)
    gains = (towards / variance.clamp(min=torch.finfo(variance.dtype).tiny)).masked_fill(~pruned, -torch.inf)
    costs = (weight.abs() * norm).masked_fill(pruned if pattern else pruned | (towards >= 0), torch.inf)
    for _ in range(CYCLES):
        grown = gains.argmax(1)
        own = costs.masked_fill(columns // pattern[1] != (grown // pattern[1])[:, None], torch.inf) if pattern else costs
        gone = own.argmin(1)
        after = error + effect[rows, gone] - effect[rows, grown]
        possible = gains[rows, grown].isfinite() & own[rows, gone].isfinite()
        active &= possible & (error.abs() > THRESHOLD) & (after.sign() == sign)
        if not active.any():
            break
        at, grown, gone = rows[active], grown[active], gone[active]
        pruned[at, grown], pruned[at, gone] = False, True
        gains[at, grown], costs[at, gone] = -torch.inf, torch.inf
        error = torch.where(active, after, error)
    return pruned


class DsnotModifier(WandaPruningModifier):
    """Wanda's calibration and mask, and the mask that it becomes."""

    _sums: dict[nn.Module, Tensor] = PrivateAttr(default_factory=dict)

    def calibrate_module(self, module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        """Add up, beside Wanda's squares, what enters ``module``: a hook of llmcompressor's."""
        super().calibrate_module(module, args, output)
        rows = args[0].detach().flatten(0, -2).float()
        more = torch.stack([rows.sum(0), rows.square().sum(0), torch.full_like(rows[0], len(rows))])
        self._sums[module] = self._sums[module] + more if module in self._sums else more

    def compress_modules(self) -> None:
        """Prune as Wanda does, then exchange; llmcompressor calls it after each of its sequential steps."""
        dense = {module: module.weight.detach().clone() for module in self._num_samples}
        super().compress_modules()
        pattern = (self._prune_m - self._prune_n, self._prune_m) if self._prune_m else None
        for module, weight in dense.items():
            sums, squares, number = self._sums.pop(module)
            mean = sums / number
            mask = exchanged(weight.float(), module.weight == 0, mean, squares / number - mean.square(), squares.sqrt(), pattern)
            module.weight.data.copy_(weight.masked_fill(mask, 0))
