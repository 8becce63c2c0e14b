"""Compressed models that the reader brings: ``compressed: {Q2_K: file.gguf}`` under a model makes ``own:Q2_K`` a level like any other.

They are read as dense weights, which have to be those of the uncompressed model in number and shape, and saved beside the study's own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ctp_lib.compression.base import Method
from ctp_lib.settings.levels import Level
from ctp_lib.settings.models import ModelSpec
from ctp_lib.settings.spec import ParameterError, require

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Own(Method):
    """Somebody else has compressed it."""

    name, label = "own", "of your own"
    families = ("given",)

    def compress(self, network, level, windows, spec, model):
        """The brought model as dense weights. Raises :class:`ParameterError` unless its tokenizer and shapes are those of ``network``."""
        from ctp_lib.model import loading

        brought = source(model, level)
        loading.check_same_prompts_fit(model, brought)
        found = _read(brought, loading.compressible(network))
        here, there = ({name: tuple(weight.shape) for name, weight in one.state_dict().items()} for one in (network, found))
        if here != there:
            name = next(name for name in sorted({*here, *there}) if here.get(name) != there.get(name))
            raise ParameterError(
                f"{brought.source} is not {model.source}, compressed: {name} is {there.get(name, 'missing')} there and "
                f"{here.get(name, 'missing')} here; bring a compressed copy of that very model"
            )
        return found

    def brings(self, model: ModelSpec, level: Level) -> ModelSpec | None:
        """The reader's."""
        return source(model, level)

    def stored(self, weights, others, level, model):
        """The bits of its files, and spread over all of its weights: it is not known how it was packed."""
        from ctp_lib.model import loading

        brought = source(model, level)
        local = brought.root / brought.source
        files = [local] if local.is_file() else loading.folder(brought).glob("*.safetensors")
        bits = 8 * sum(file.stat().st_size for file in files)
        return bits / (sum(weight.numel() for weight in weights.values()) + others), bits


def source(spec: ModelSpec, level: Level) -> ModelSpec:
    """The model that ``level`` names under the model ``spec``. Raises :class:`ParameterError` where there is none."""
    require(level.given in spec.compressed, "level", str(level), f"own: and a name under compressed of {spec.source!r}")
    return ModelSpec(spec.compressed[level.given], dtype=spec.dtype, root=spec.root)


def _read(brought: ModelSpec, matrices: Iterable[str]) -> PreTrainedModel:
    """The weights as dense ones. What compressed-tensors, GPTQ or AWQ packed is unpacked; other packings are refused."""
    from safetensors import safe_open
    from transformers import AutoConfig, CompressedTensorsConfig

    from ctp_lib.compression.packed import unpacked
    from ctp_lib.compression.sequential import plain
    from ctp_lib.model import loading

    folder = loading.folder(brought)
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    packed = getattr(config, "quantization_config", None)
    if packed is None:
        return loading.load_model(brought)
    packed = packed if isinstance(packed, dict) else packed.to_dict()
    if packed["quant_method"] == "compressed-tensors":
        kept = [name for path in folder.glob("*.safetensors") for name in safe_open(path, "pt").keys()]  # noqa: SIM118
        for matrix in matrices:  # of one that is not there, it would unpack what happens to lie in memory
            if not any(name.startswith(f"{matrix}.weight") for name in kept):
                raise ParameterError(f"model {brought.source!r} lacks {matrix}; check its files")
        dense = CompressedTensorsConfig(dequantize=True)
        return plain(loading.read(brought, folder, brought.source, quantization_config=dense))
    if packed["quant_method"] in ("gptq", "awq"):
        del config.quantization_config
        return loading.read(brought, None, brought.source, config=config, state_dict=unpacked(folder, packed))
    raise ParameterError(
        f"{brought.source} is packed by {packed['quant_method']}, which is not read here; bring it dense, as GGUF, or packed by "
        "compressed-tensors, GPTQ or AWQ"
    )


METHOD = Own()
