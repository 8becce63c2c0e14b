"""Pruning and quantising in one pass: the paper's joint levels."""

from ctp_lib.compression.calibrated import Calibrated, mask_structure


class Joint(Calibrated):
    """A mask and a row's grid, chosen together."""

    name, label, grid_in_fp32 = "joint", "both in one pass", True
    families = ("joint",)

    def modifier(self, level, spec, targets):
        """Its settings: sparsity, bits, dampening, block size."""
        from ctp_lib.compression.joint_pass import JointModifier

        return JointModifier(
            targets=targets,
            sparsity=level.sparsity,
            mask_structure=mask_structure(level),
            bits=level.bits,
            dampening_frac=spec.dampening,
            block_size=spec.block_size,
        )


METHOD = Joint()
