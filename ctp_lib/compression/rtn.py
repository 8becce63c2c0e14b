"""Round to nearest: every weight to the nearest point of its grid, whatever its inputs."""

from ctp_lib.compression.base import Method


class RoundToNearest(Method):
    """By compressed-tensors, llmcompressor's own arithmetic, on the grid that GPTQ rounds to."""

    name, label = "rtn", "RTN"
    families, in_groups = ("quantised",), True

    def compress(self, network, level, windows, spec, model):
        """Round every matrix by itself; the calibration windows are not looked at."""
        from compressed_tensors.quantization import fake_quantize
        from compressed_tensors.quantization.utils import calculate_qparams

        from ctp_lib.compression.grid import asymmetric
        from ctp_lib.model import loading

        grid = asymmetric(level.bits)
        for module in loading.compressible(network).values():
            rows = module.weight.data.reshape(-1, level.group or module.weight.shape[1])  # a group is a row of its own
            scale, zero = calculate_qparams(rows.amin(1, keepdim=True), rows.amax(1, keepdim=True), grid)
            module.weight.data = fake_quantize(rows, scale, zero, grid).view_as(module.weight)
        return network


METHOD = RoundToNearest()
