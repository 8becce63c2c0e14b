"""A compressed model as a folder that a hub takes: packed by compressed-tensors where it lies on a grid, dense otherwise."""

import shutil
from pathlib import Path

from compressed_tensors import ModelCompressor
from compressed_tensors.quantization import (
    QuantizationConfig,
    QuantizationScheme,
    QuantizationStatus,
    apply_quantization_config,
    fake_quantize,
)
from compressed_tensors.quantization.utils import calculate_qparams
from torch import nn
from transformers import PreTrainedModel

from ctp_lib.compression import reached, saved
from ctp_lib.compression.base import method_for, registry
from ctp_lib.compression.grid import asymmetric
from ctp_lib.model import loading
from ctp_lib.publishing.card import Page
from ctp_lib.recovery import scores
from ctp_lib.recovery.none import METHOD as NONE
from ctp_lib.settings import paths
from ctp_lib.settings.levels import Level
from ctp_lib.settings.models import ModelSpec
from ctp_lib.settings.spec import ParameterError
from ctp_lib.settings.study import Study

OFF_GRID = 5e-3
"""Of its size: how far a weight that was saved in 16 bits may lie from its grid point; bf16 rounds by up to 0.0039."""
USE = """\
```python
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained("path/to/this/folder")
```
"""
DENSE = "The weights are dense; those that were pruned are zero."
PACKED = (
    "The weights are packed by compressed-tensors (`pack-quantized`), which has to be installed; transformers and vLLM read it."
)


def compressed_model(settings: Study, model: str, level: Level) -> Path:
    """Write ``model`` at ``level`` as a hub-ready folder, which is returned: packed when its weights are quantised, dense otherwise.

    Raises :class:`ParameterError` when it was not compressed yet, is not compressed at all, or does not lie on its grid.
    """
    source = paths.compressed(settings, model, level)
    if level.family == "full":
        raise ParameterError(f"{model} at full is the model as it came; publish a level that compresses it")
    if level.given:
        raise ParameterError(f"{model} at {level} is published already, by whom it came from; publish a prompt of it")
    if not source.exists():
        remedy = f"run notebooks/02_compression with model {model!r}, level '{level}'"
        raise ParameterError(f"{model} at {level} is not compressed yet; {remedy}")
    rows, use = scores.obtain(settings, model, level, NONE.name)["perplexity"], USE + (PACKED if level.bits else DENSE)
    page = Page(settings, model, level, "", f"{model} at {level}", "transformers", _protocol(settings, model, level), use, rows)
    with page.published() as folder:
        if level.bits:
            dense = loading.load_model(settings.model(model))
            dense = dense.float() if method_for(level, registry(settings)).grid_in_fp32 else dense
            _save_packed(loading.load_model(settings.model(model), source), dense, level, folder)
            loading.load_tokenizer(ModelSpec(str(source))).save_pretrained(folder)
        else:
            shutil.copytree(source, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(saved.MANIFEST))
    return page.goal


def _protocol(settings: Study, model: str, level: Level) -> str:
    made, spec, how = saved.make(settings, model, level), settings.compression, "without calibration"
    if "calibration" in made:
        how = f"calibrated on {spec.windows} windows of {spec.window} tokens of *{spec.corpus}*"
        how += f" (dampening {spec.dampening:g}, seed {settings.seed})"
    bits = reached.obtain(settings, model, level)["reached"]["bits_per_weight"]
    return f"{method_for(level, registry(settings)).label}, {how}; {bits:.3f} bits a weight when packed, mask, scales and zero points counted."


def _save_packed(network: PreTrainedModel, dense: PreTrainedModel, level: Level, folder: Path) -> None:
    """``network`` at ``level`` into ``folder``, as codes on the grid of ``dense``, whose dtype is that in which the grid was looked for."""
    grid, matrices, before = asymmetric(level.bits, level.group), loading.compressible(network), loading.compressible(dense)
    others = [name for name, module in network.named_modules() if isinstance(module, nn.Linear) and name not in matrices]
    scheme = QuantizationScheme(targets=["Linear"], weights=grid)
    apply_quantization_config(network, QuantizationConfig(config_groups={"all": scheme}, ignore=others))
    for name, module in matrices.items():
        rows = before[name].weight.reshape(-1, level.group or module.in_features)
        scale, zero = (found.view(module.out_features, -1) for found in calculate_qparams(rows.amin(1), rows.amax(1), grid))
        module.weight_scale.data, module.weight_zero_point.data = scale.float(), zero.to(module.weight_zero_point.dtype)
        on_grid, step = fake_quantize(module.weight, scale.float(), zero, grid), scale.float().repeat_interleave(rows.shape[1], 1)
        if ((on_grid - module.weight).abs() > OFF_GRID * module.weight.abs().maximum(step)).any():
            off = f"{name} does not lie on the grid of {level} of the model it was made from"
            raise ParameterError(f"{off}; compress that model again, or publish another level")
        module.quantization_status = QuantizationStatus.FROZEN
    compressor = ModelCompressor.from_pretrained_model(network, "pack-quantized")
    compressor.compress_model(network)
    network.half().save_pretrained(folder)
    compressor.update_config(folder)
