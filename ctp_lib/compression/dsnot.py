"""DSnoT (Zhang et al. 2023): Wanda's mask, some of whose weights are exchanged by their expected effect. No training, no weight changed."""

from ctp_lib.compression.calibrated import Calibrated, mask_structure


class Dsnot(Calibrated):
    """From Wanda's mask, with the released code's threshold and number of cycles; the MLP, which that code leaves out, is done too."""

    name, label = "dsnot", "DSnoT"
    families = ("pruned",)

    def modifier(self, level, spec, targets):
        """It has no settings but the sparsity."""
        from ctp_lib.compression.dsnot_pass import DsnotModifier

        return DsnotModifier(targets=targets, sparsity=level.sparsity, mask_structure=mask_structure(level))


METHOD = Dsnot()
