"""SparseGPT (Frantar & Alistarh 2023), one sparsity for every layer: the paper's pruned levels."""

from ctp_lib.compression.calibrated import Calibrated, mask_structure


class SparseGpt(Calibrated):
    """llmcompressor's; the mask is chosen for each block of columns over the whole block, or in every group of n:m."""

    name, label = "sparsegpt", "SparseGPT"
    families = ("pruned",)

    def modifier(self, level, spec, targets):
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
