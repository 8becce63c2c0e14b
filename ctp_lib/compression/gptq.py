"""GPTQ (Frantar et al. 2022) with activation order: the paper's quantised levels, and those in groups of columns."""

from ctp_lib.compression.calibrated import Calibrated


class Gptq(Calibrated):
    """llmcompressor's; asymmetric. A group's grid is that of its dense columns."""

    name, label = "gptq", "GPTQ"
    families, in_groups = ("quantised",), True

    def modifier(self, level, spec, targets):
        """Its settings: static activation order, dampening, block size."""
        from ctp_lib.compression.gptq_solver import Solver
        from ctp_lib.compression.grid import asymmetric

        scheme = {"targets": targets, "weights": asymmetric(level.bits, level.group).model_dump()}
        return Solver(config_groups={"all": scheme}, actorder="static", dampening_frac=spec.dampening, block_size=spec.block_size)


METHOD = Gptq()
