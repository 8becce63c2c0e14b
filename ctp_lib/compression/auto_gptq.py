"""GPTQ by auto-gptq, the library of the paper's time: a second GPTQ, which must give the same weights (``auto-gptq:4bit``)."""

from ctp_lib.compression.calibrated import Calibrated


class AutoGptq(Calibrated):
    """Per channel, asymmetric, activation order, as the paper's."""

    name, label, grid_in_fp32 = "auto-gptq", "auto-gptq", True
    families = ("quantised",)

    def modifier(self, level, spec, targets):
        """Its settings: dampening and block size."""
        from ctp_lib.compression.auto_gptq_solver import AutoGPTQModifier

        return AutoGPTQModifier(targets=targets, bits=level.bits, dampening_frac=spec.dampening, block_size=spec.block_size)


METHOD = AutoGptq()
