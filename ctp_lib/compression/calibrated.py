"""Methods that look at the inputs of every matrix, one matrix after the other.

True-sequential: a matrix sees the outputs of the matrices that were compressed before it.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from ctp_lib.compression.base import Method
from ctp_lib.settings.levels import Level

if TYPE_CHECKING:
    from llmcompressor.modifiers import Modifier
    from torch import Tensor
    from transformers import PreTrainedModel

    from ctp_lib.settings.compression import CompressionSpec
    from ctp_lib.settings.models import ModelSpec


class Calibrated(Method):
    """A method is the modifier that does a level to the linear layers named in ``targets``."""

    needs_calibration = True

    @abstractmethod
    def modifier(self, level: Level, spec: CompressionSpec, targets: list[str]) -> Modifier:
        """llmcompressor's, or one of ours for its pipeline."""

    def compress(
        self, network: PreTrainedModel, level: Level, windows: Tensor, spec: CompressionSpec, model: ModelSpec
    ) -> PreTrainedModel:
        """Compress by calibration; where there is a GPU, a layer is brought there when its turn comes."""
        from ctp_lib.compression import sequential  # takes seconds to import
        from ctp_lib.model import loading

        modifier = self.modifier(level, spec, list(loading.compressible(network.base_model)))
        return sequential.run(network, modifier, windows.split(spec.windows_at_once), f"compress to {level}")


def mask_structure(level: Level) -> str:
    """n:m as llmcompressor counts it, in weights that go."""
    return f"{level.pattern[1] - level.pattern[0]}:{level.pattern[1]}" if level.pattern else "0:0"
