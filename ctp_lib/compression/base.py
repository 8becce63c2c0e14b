"""What a compression method is, and which one does a level."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from ctp_lib.settings.levels import Level
from ctp_lib.settings.registry import Registry
from ctp_lib.settings.spec import ParameterError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from ctp_lib.settings.compression import CompressionSpec
    from ctp_lib.settings.study import Study


class Method(ABC):
    """``name`` as levels have it before their colon, ``label`` as figures print it.

    ``grid_in_fp32``: it looks for the grid of quantised weights in fp32, not in the model's own dtype.
    """

    name: ClassVar[str]
    label: ClassVar[str]
    grid_in_fp32: ClassVar[bool] = False

    @abstractmethod
    def can(self, level: Level) -> bool:
        """Whether it does such a level."""

    @abstractmethod
    def compress(self, network: PreTrainedModel, level: Level, windows: Tensor, spec: CompressionSpec) -> PreTrainedModel:
        """Compress every linear layer of ``network`` but its output head, in place; weights stay dense, in the model's dtype.

        ``windows`` are the calibration tokens, int64, number x window; a method that looks at no inputs leaves them alone.
        """

    def bits(self, weights: Mapping[str, Tensor], level: Level) -> float:
        """Bits a weight that compressed matrices (by name, rows x columns) take when packed, all told."""
        from ctp_lib.compression import storage

        return storage.bits_per_weight(weights, level)


def registry(settings: Study | None = None) -> Registry[Method]:
    """The methods of the library, and those that the study brings."""
    return Registry("compression", Method, *((settings.root, settings.plugins) if settings else ()))


def method_for(level: Level, methods: Registry[Method] | None = None) -> Method:
    """The method that does ``level``. Raises :class:`ParameterError` where none is called so, or it cannot."""
    method = (methods or registry()).get(level.method)
    if not method.can(level):
        raise ParameterError(f"level {level}: {method.label} cannot do it; take another level, or another method before the colon")
    return method
