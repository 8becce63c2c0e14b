"""Magnitude pruning: the smallest weights of every matrix go, whatever their inputs."""

from ctp_lib.compression.base import Method


class Magnitude(Method):
    """The share ``sparsity`` of a matrix that is smallest in absolute value, or the m - n smallest of every m in a row."""

    name, label = "magnitude", "magnitude"
    families = ("pruned",)

    def compress(self, network, level, windows, spec, model):
        """Prune every matrix by itself; the calibration windows are not looked at."""
        from ctp_lib.model import loading

        for module in loading.compressible(network).values():
            weight = module.weight.data
            kept, size = level.pattern or (0, weight.numel())
            groups = weight.abs().view(-1, size)
            going = size - kept if level.pattern else int(size * level.sparsity)
            smallest = groups.float().topk(going, dim=1, largest=False).indices
            weight.view(-1, size).scatter_(1, smallest, 0.0)
        return network


METHOD = Magnitude()
