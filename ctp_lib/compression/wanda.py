"""Wanda (Sun et al. 2023): weights are pruned by their size times the norm of their input, row by row; none of the others is changed."""

from ctp_lib.compression.calibrated import Calibrated, mask_structure


class Wanda(Calibrated):
    """llmcompressor's; score |w| ||x||_2 (equation 1), the smallest share of every row, or of every group of n:m."""

    name, label = "wanda", "Wanda"
    families = ("pruned",)

    def modifier(self, level, spec, targets):
        """It has no settings but the sparsity."""
        from llmcompressor.modifiers.pruning import WandaPruningModifier

        return WandaPruningModifier(targets=targets, sparsity=level.sparsity, mask_structure=mask_structure(level))


METHOD = Wanda()
