"""Compressed models that the reader brings: ``compressed: {Q2_K: file.gguf}`` under a model makes ``own:Q2_K`` a level like any other.

They are read as dense weights, which have to be those of the uncompressed model in number and shape, and saved beside the study's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ctp_lib.compression.base import Method
from ctp_lib.settings.levels import Level
from ctp_lib.settings.models import ModelSpec
from ctp_lib.settings.spec import ParameterError, require

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from ctp_lib.settings.compression import CompressionSpec


class Own(Method):
    """Somebody else has compressed it."""

    name, label = "own", "of your own"

    def can(self, level: Level) -> bool:
        """A level that is named after it."""
        return level.family == "given"

    def compress(self, network: PreTrainedModel, level: Level, windows: Tensor, spec: CompressionSpec) -> PreTrainedModel:
        """:func:`bring` does it."""
        raise NotImplementedError

    def bits(self, weights: Mapping[str, Tensor], level: Level) -> float:
        """It is not known how it was packed; :func:`stored_bits` counts its files."""
        return float("nan")


def source(spec: ModelSpec, level: Level) -> ModelSpec:
    """The model that ``level`` names under the model ``spec``. Raises :class:`ParameterError` where there is none."""
    require(level.given in spec.compressed, "level", str(level), f"own: and a name under compressed of {spec.source!r}")
    return ModelSpec(spec.compressed[level.given], dtype=spec.dtype, root=spec.root)


def bring(spec: ModelSpec, level: Level, dense: PreTrainedModel) -> PreTrainedModel:
    """The brought model as dense weights. Raises :class:`ParameterError` unless it is ``dense``, compressed: same tokenizer, same shapes."""
    from ctp_lib.model import loading

    brought = source(spec, level)
    loading.check_same_prompts_fit(spec, brought)
    network = _read(brought)
    one, other = ({name: tuple(weight.shape) for name, weight in model.state_dict().items()} for model in (dense, network))
    if one != other:
        name = next(name for name in sorted({*one, *other}) if one.get(name) != other.get(name))
        raise ParameterError(
            f"{brought.source} is not {spec.source}, compressed: {name} is {other.get(name, 'missing')} there and {one.get(name, 'missing')} "
            "here; bring a compressed copy of that very model"
        )
    return network


def _read(brought: ModelSpec) -> PreTrainedModel:
    """The weights as dense ones. Packed by compressed-tensors, they are unpacked by it; other packings are refused."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, CompressedTensorsConfig

    from ctp_lib.compression.sequential import plain
    from ctp_lib.model import loading

    folder = loading.folder(brought)
    packed = getattr(AutoConfig.from_pretrained(folder, trust_remote_code=False), "quantization_config", None)
    if packed is None:
        return loading.load_model(brought)
    by = packed["quant_method"] if isinstance(packed, dict) else packed.quant_method
    if by != "compressed-tensors":
        raise ParameterError(
            f"{brought.source} is packed by {by}, which is not read here; bring it dense, as GGUF, or by compressed-tensors"
        )
    unpacked = CompressedTensorsConfig(dequantize=True)
    return plain(
        AutoModelForCausalLM.from_pretrained(
            folder, dtype=getattr(torch, brought.dtype), quantization_config=unpacked, use_safetensors=True, trust_remote_code=False
        ).eval()
    )


def stored_bits(spec: ModelSpec, level: Level) -> int:
    """Bits of the files that hold the brought model's weights."""
    from ctp_lib.model import loading

    brought = source(spec, level)
    local = brought.root / brought.source
    files: list[Path] = [local] if local.is_file() else [*loading.folder(brought).glob("*.safetensors")]
    return 8 * sum(file.stat().st_size for file in files)


METHOD = Own()
