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
    from ctp_lib.settings.models import ModelSpec
    from ctp_lib.settings.study import Study


class Method(ABC):
    """``name`` as levels have it before their colon, ``label`` as figures print it, ``families`` of levels that it does.

    ``in_groups``: it quantises in groups of columns, too. ``grid_in_fp32``: it looks for the grid of quantised weights in fp32, not in the
    model's own dtype. ``needs_calibration``: it looks at inputs.
    """

    name: ClassVar[str]
    label: ClassVar[str]
    families: ClassVar[tuple[str, ...]]
    in_groups: ClassVar[bool] = False
    grid_in_fp32: ClassVar[bool] = False
    needs_calibration: ClassVar[bool] = False

    def can(self, level: Level) -> bool:
        """Whether it does such a level."""
        return level.family in self.families and (self.in_groups or level.group is None)

    @abstractmethod
    def compress(
        self, network: PreTrainedModel, level: Level, windows: Tensor, spec: CompressionSpec, model: ModelSpec
    ) -> PreTrainedModel:
        """Compress every linear layer of ``network`` but its output head, in place; weights stay dense, in the model's dtype.

        ``windows`` are the calibration tokens, int64, number x window; a method that looks at no inputs leaves them alone. ``model`` is
        where ``network`` was loaded from.
        """

    def brings(self, model: ModelSpec, level: Level) -> ModelSpec | None:
        """Another model that the compressed one is made of, if it is."""
        return None

    def stored(self, weights: Mapping[str, Tensor], others: int, level: Level, model: ModelSpec) -> tuple[float, int]:
        """Bits per weight that compressed matrices (by name, rows x columns) take when packed, all told; and the bits of the whole file, with
        the ``others``, parameters that are not compressed.
        """
        from ctp_lib.compression import storage

        packed = sum(storage.packed_bits(weight, level) for weight in weights.values())
        return packed / sum(weight.numel() for weight in weights.values()), packed + storage.FLOAT_BITS * others


def registry(settings: Study | None = None) -> Registry[Method]:
    """The methods of the library, and those that the study brings."""
    return Registry("compression", Method, *((settings.root, settings.plugins) if settings else ()))


def method_for(level: Level, methods: Registry[Method] | None = None) -> Method:
    """The method that does ``level``. Raises :class:`ParameterError` where none is called so, or it cannot."""
    method = (methods or registry()).get(level.method)
    if not method.can(level):
        raise ParameterError(f"level {level}: {method.label} cannot do it; take another level, or another method before the colon")
    return method
