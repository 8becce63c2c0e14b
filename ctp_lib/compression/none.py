"""The uncompressed model, which all others are compared with."""

from ctp_lib.compression.base import Method


class Uncompressed(Method):
    """Leaves every weight as it is."""

    name, label = "none", "uncompressed"
    families = ("full",)

    def compress(self, network, level, windows, spec, model):
        """Nothing is done."""
        return network


METHOD = Uncompressed()
