"""SparseGPT (Frantar & Alistarh 2023), one sparsity for every layer: the paper's pruned levels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ctp_lib.compression.calibrated import Calibrated, mask_structure
from ctp_lib.settings.levels import Level

if TYPE_CHECKING:
    from llmcompressor.modifiers import Modifier

    from ctp_lib.settings.compression import CompressionSpec


class SparseGpt(Calibrated):
    """llmcompressor's; the mask is chosen for each block of columns over the whole block, or in every group of n:m."""

    name, label = "sparsegpt", "SparseGPT"
    families = ("pruned",)

    def modifier(self, level: Level, spec: CompressionSpec, targets: list[str]) -> Modifier:
        """Its settings: sparsity, dampening, block size."""
        from llmcompressor.modifiers.pruning import SparseGPTModifier

        return SparseGPTModifier(
            targets=targets,
            sparsity=level.sparsity,
            mask_structure=mask_structure(level),
            dampening_frac=spec.dampening,
            block_size=spec.block_size,
        )


METHOD = SparseGpt()
