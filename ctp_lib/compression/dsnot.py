"""DSnoT (Zhang et al. 2023): Wanda's mask, some of whose weights are exchanged by their expected effect. No training, no weight changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ctp_lib.compression.calibrated import Calibrated, mask_structure
from ctp_lib.settings.levels import Level

if TYPE_CHECKING:
    from ctp_lib.compression.dsnot_pass import DsnotModifier
    from ctp_lib.settings.compression import CompressionSpec


class Dsnot(Calibrated):
    """From Wanda's mask, with the released code's threshold and number of cycles; the MLP, which that code leaves out, is done too."""

    name, label = "dsnot", "DSnoT"
    families = ("pruned",)

    def modifier(self, level: Level, spec: CompressionSpec, targets: list[str]) -> DsnotModifier:
        """It has no settings but the sparsity."""
        from ctp_lib.compression.dsnot_pass import DsnotModifier

        return DsnotModifier(targets=targets, sparsity=level.sparsity, mask_structure=mask_structure(level))


METHOD = Dsnot()
