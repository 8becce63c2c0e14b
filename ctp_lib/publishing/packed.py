"""A compressed model as a folder that a hub takes: packed in the GPTQ format where its grid allows it, dense otherwise."""

import shutil
from pathlib import Path

import torch
from huggingface_hub import save_torch_state_dict

from ctp_lib.compression import reached, saved
from ctp_lib.compression.base import method_for, registry
from ctp_lib.model import loading
from ctp_lib.publishing import card, gptq_format
from ctp_lib.recovery import scores
from ctp_lib.recovery.none import METHOD as NONE
from ctp_lib.settings import models, paths
from ctp_lib.settings.levels import Level
from ctp_lib.settings.models import ModelSpec
from ctp_lib.settings.spec import ParameterError
from ctp_lib.settings.study import Study

DENSE_USE = """\
```python
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained("path/to/this/folder")
```
The weights are dense; those that were pruned are zero."""
PACKED_USE = """\
```python
from transformers import AutoModelForCausalLM, GPTQConfig

model = AutoModelForCausalLM.from_pretrained("path/to/this/folder", quantization_config=GPTQConfig(bits={bits}, backend="torch"))
```
The weights are packed in the GPTQ format (`gptq_v2`; {bits} bits, one group a row, asymmetric), which transformers reads through gptqmodel
and optimum. gptqmodel's other kernels for the CPU do not take groups of every width, and give wrong gradients to the inputs: keep
`backend="torch"` where prompts are trained."""


def compressed_model(settings: Study, model: str, level: Level) -> Path:
    """Write ``model`` at ``level`` as a hub-ready folder, which is returned: packed when every row has one grid, dense otherwise.

    Raises :class:`ParameterError` when it was not compressed yet, is not compressed at all, or does not fit the GPTQ format.
    """
    source = paths.compressed(settings, model, level)
    if level.family == "full":
        raise ParameterError(f"{model} at full is the model as it came; publish a level that compresses it")
    if level.given:
        raise ParameterError(f"{model} at {level} is published already, by whom it came from; publish a prompt of it")
    if not source.exists():
        raise ParameterError(
            f"{model} at {level} is not compressed yet; run notebooks/02_compression with model {model!r}, level '{level}'"
        )
    packed = level.bits is not None and level.group is None
    rows = scores.obtain(settings, model, level, NONE.name)["perplexity"]
    goal = settings.root / "published" / f"{models.slug(model)}-{level.slug}"
    about = card.About(settings, model, level, f"{model} at {level}", "transformers", _protocol(settings, model, level))
    with paths.replacing(goal) as folder:
        folder.mkdir()
        if packed:
            _save_packed(settings, settings.model(model), source, folder, level)
        else:
            shutil.copytree(source, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(saved.MANIFEST))
        card.write(folder, about, rows, PACKED_USE.format(bits=level.bits) if packed else DENSE_USE)
    return goal


def _protocol(settings: Study, model: str, level: Level) -> str:
    made, spec, how = saved.make(settings, model, level), settings.compression, "without calibration"
    if "calibration" in made:
        how = f"calibrated on {spec.windows} windows of {spec.window} tokens of *{spec.corpus}*"
        how += f" (dampening {spec.dampening:g}, seed {settings.seed})"
    bits = reached.obtain(settings, model, level)["reached"]["bits_per_weight"]
    return f"{method_for(level, registry(settings)).label}, {how}; {bits:.3f} bits a weight when packed, mask, scales and zero points counted."


def _save_packed(settings: Study, spec: ModelSpec, source: Path, folder: Path, level: Level) -> None:
    network, dense = loading.load_model(spec, source), loading.load_model(spec)
    if method_for(level, registry(settings)).grid_in_fp32:
        dense = dense.float()
    dense, bits = loading.compressible(dense), level.bits
    state = {name: weight.half() for name, weight in network.state_dict().items()}
    if network.config.get_text_config().tie_word_embeddings:
        state.pop("lm_head.weight", None)
    for name, module in loading.compressible(network).items():
        state.pop(f"{name}.weight")
        state |= gptq_format.pack(name, module.weight.detach(), dense[name].weight.detach(), bits)
    save_torch_state_dict(state, folder)
    network.config.dtype = torch.float16
    network.config.quantization_config = gptq_format.settings(bits, settings.compression.dampening)
    network.config.save_pretrained(folder)
    network.generation_config.save_pretrained(folder)
    loading.load_tokenizer(ModelSpec(str(source))).save_pretrained(folder)
