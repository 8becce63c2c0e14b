"""The uncompressed model, which all others are compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ctp_lib.compression.base import Method
from ctp_lib.settings.levels import Level

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from ctp_lib.settings.compression import CompressionSpec
    from ctp_lib.settings.models import ModelSpec


class Uncompressed(Method):
    """Leaves every weight as it is."""

    name, label = "none", "uncompressed"
    families = ("full",)

    def compress(
        self, network: PreTrainedModel, level: Level, windows: Tensor, spec: CompressionSpec, model: ModelSpec
    ) -> PreTrainedModel:
        """Nothing is done."""
        return network


METHOD = Uncompressed()
