"""A causal LM and its tokenizer, from a hub id or a folder."""

import atexit
import contextlib
import functools
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch.utils.checkpoint import checkpoint
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.utils.logging import disable_progress_bar

from ctp_lib.model import gguf, hub
from ctp_lib.settings.models import ModelSpec
from ctp_lib.settings.spec import ParameterError, first_line

TOKENIZER_FILES = ("tokenizer.json", "*.model", "vocab.*", "*.tiktoken")
"""Any of these makes a tokenizer; from none, transformers would make an empty one."""

SPREAD = "spread"
"""In place of a device: all GPUs, then main memory, then disk."""

disable_progress_bar()  # a bar for every file read would bury the one that counts


def load_tokenizer(spec: ModelSpec) -> PreTrainedTokenizerBase:
    """The tokenizer of a model. Raises :class:`ParameterError` when there is none or it has no end-of-sequence token."""
    if not any(path for pattern in TOKENIZER_FILES for path in folder(spec).glob(pattern)):
        raise ParameterError(f"model {spec.source!r} has no tokenizer; put its tokenizer.json beside the model's config.json")
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder(spec), trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise ParameterError(f"model {spec.source!r} has no tokenizer that loads: {first_line(error)}") from None
    if tokenizer.eos_token_id is None:
        raise ParameterError(f"model {spec.source!r}: its tokenizer names no end-of-sequence token; set eos_token in its config")
    return tokenizer


def as_chat(tokenizer: PreTrainedTokenizerBase, said: str) -> torch.Tensor:
    """The tokens (int64) of what a user ``said``, and of what stands before an answer, by the model's own template, which runs in a sandbox.

    Raises :class:`ParameterError` when the template fails, or does what the sandbox forbids.
    """
    turn = [{"role": "user", "content": said}]
    try:
        return tokenizer.apply_chat_template(turn, add_generation_prompt=True, return_tensors="pt", return_dict=True)["input_ids"][
            0
        ]
    except Exception as error:  # of many kinds, by what the template holds
        raise ParameterError(
            f"the model's chat template fails ({first_line(error)}); correct it, or take it out of its folder"
        ) from None


def load_model(
    spec: ModelSpec,
    compressed: Path | None = None,
    *,
    on: torch.device | str = "cpu",
    most: dict[int | str, int | str] | None = None,
) -> PreTrainedModel:
    """The model in ``spec.dtype``, frozen and in evaluation mode, ``on`` a device; from the folder ``compressed`` when that is given.

    ``on`` :data:`SPREAD`, accelerate spreads its layers over all GPUs, then main memory, then disk; ``most`` bytes of each, where it is said.
    Only safetensors are read, and code that comes with a model is never run; :class:`ParameterError` when the model does not load.
    """
    source, name = compressed or folder(spec), str(compressed or spec.source)
    if not any(source.glob("*.safetensors")):
        convert = "AutoModelForCausalLM.from_pretrained(..., use_safetensors=False).save_pretrained(folder)"
        refused = "pickled ones are refused, since reading them can run code"
        remedy = f"name a revision that has them, or convert where that does no harm: {convert}"
        raise ParameterError(f"model {spec.source!r} has no weights in safetensors, and {refused}; {remedy}")
    for index in source.glob("*.safetensors.index.json"):
        shards = json.loads(index.read_text(encoding="utf-8")).get("weight_map", {}).values()
        if outside := sorted(shard for shard in shards if Path(shard).name != shard):
            raise ParameterError(f"{index} names {outside[0]}, outside of its folder; take this model from elsewhere")
    remedy = "; delete this folder and compress again" if compressed else ""
    if on != SPREAD:
        return read(spec, source, name, remedy).to(on)
    scratch = tempfile.mkdtemp(prefix="ctp-layers-")  # where accelerate puts what fits nowhere else
    atexit.register(shutil.rmtree, scratch, ignore_errors=True)
    return read(spec, source, name, remedy, device_map="auto", max_memory=most, offload_folder=scratch)


def read(spec: ModelSpec, source: Path | None, name: str, remedy: str = "", **how: Any) -> PreTrainedModel:
    """The model in the folder ``source``, or of a ``config`` and a ``state_dict``, in ``spec.dtype``, frozen. Raises :class:`ParameterError`
    with ``name`` and ``remedy`` where it does not load, or not all of it.
    """
    kind = AutoModelForCausalLM if source else MODEL_FOR_CAUSAL_LM_MAPPING[type(how["config"])]
    how |= {"dtype": getattr(torch, spec.dtype), "use_safetensors": True, "trust_remote_code": False, "output_loading_info": True}
    try:
        model, found = kind.from_pretrained(source, **how)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ParameterError(f"model {name!r} does not load: {first_line(error)}{remedy}") from None
    for what, names in (("lacks", found["missing_keys"]), ("has no place for", found["unexpected_keys"])):
        if names:  # transformers would draw what is missing at random
            first = ", ".join(sorted(names)[:3])
            raise ParameterError(f"model {name!r} {what} {len(names)} weights, such as {first}; check its files")
    if not model.generation_config.do_sample:
        for setting in ("temperature", "top_p", "top_k", "min_p", "typical_p"):  # without sampling they would stop every saving
            setattr(model.generation_config, setting, None)
    return model.eval().requires_grad_(False)


def check_dense(config: PretrainedConfig, source: str) -> None:
    """Raise :class:`ParameterError` for a model that is packed in few bits already: it is a compressed model, not one to compress."""
    packed = getattr(config, "quantization_config", None)
    if packed is not None:
        by = packed["quant_method"] if isinstance(packed, dict) else packed.quant_method
        remedy = "name the uncompressed one, and this under its `compressed` to study it as a level"
        raise ParameterError(f"model {source!r} is packed by {by} already; {remedy}")


def check_fit(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, positions: int) -> None:
    """Raise :class:`ParameterError` unless the tokenizer fits the embeddings and the context holds ``positions`` tokens."""
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise ParameterError(f"the tokenizer has {len(tokenizer)} tokens, the model embeds {rows}; take the model's own tokenizer")
    if positions > context(model):
        have = f"window and prompt need {positions} positions, the model has {context(model)}"
        raise ParameterError(f"{have}; shorten the window or the prompt in params.yaml")


def context(model: PreTrainedModel) -> int:
    """How many positions the model takes; a very large number when its configuration names no limit."""
    return getattr(model.config.get_text_config(), "max_position_embeddings", None) or 10**9


def check_same_prompts_fit(one: ModelSpec, other: ModelSpec) -> None:
    """Raise :class:`ParameterError` unless the two models have the same vocabulary and width, so that a prompt of one fits the other."""
    if load_tokenizer(one).get_vocab() != load_tokenizer(other).get_vocab():
        raise ParameterError(f"{one.source} and {other.source} have different tokenizers; a prompt only fits a model with the same")
    configs = [AutoConfig.from_pretrained(folder(spec), trust_remote_code=False).get_text_config() for spec in (one, other)]
    widths = [getattr(config, "word_embed_proj_dim", config.hidden_size) for config in configs]
    if widths[0] != widths[1]:
        have = f"{one.source} has width {widths[0]}, {other.source} {widths[1]}"
        raise ParameterError(f"{have}; a prompt only fits a model of the same width")


def place(wanted: str) -> torch.device | str:
    """Where :func:`load_model` puts a network that is computed, by ``device`` of ``params.yaml``."""
    return SPREAD if wanted == SPREAD else device(wanted)


def device(wanted: str) -> torch.device:
    """``device`` of ``params.yaml``, ``auto`` the GPU if there is one, else the CPU; :class:`ParameterError` when this machine lacks it. A model
    that is ``spread`` begins on it.
    """
    wanted = "auto" if wanted == SPREAD else wanted
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wanted == "auto":
        wanted = next(name for name in ("cuda", "mps", "cpu") if present[name])
    if not present[wanted]:
        raise ParameterError(f"device is {wanted!r}; this machine has {', '.join(name for name in present if present[name])}")
    return torch.device(wanted)


def has_fast_bf16() -> bool:
    """Whether this machine multiplies bf16 matrices in hardware; emulated, they are slower than fp32."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def compressible(model: PreTrainedModel) -> dict[str, torch.nn.Linear]:
    """What compression acts on: every linear layer of the repeated blocks, by name, not those before or behind (OPT's ``project_in``, heads)."""
    linear = (found for found in model.named_modules() if isinstance(found[1], torch.nn.Linear))
    return {name: module for name, module in linear if any(part.isdigit() for part in name.split("."))}


def recompute_activations(model: PreTrainedModel) -> None:
    """Let the layers of ``model`` keep no activations for the backward pass, which computes them again: less memory, a third more work.

    Not by transformers' own switch, which works in training mode alone and so turns the dropout of OPT and others on.
    """
    for module in model.modules():
        if isinstance(module, GradientCheckpointingLayer) and "forward" not in vars(module):
            module.forward = functools.partial(checkpoint, module.forward, use_reentrant=False)


@contextlib.contextmanager
def compiled(model: PreTrainedModel) -> Iterator[None]:
    """Meanwhile, the layers of ``model`` are translated by ``torch.compile`` at their first use, once for all that are alike."""
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    for layer in layers:
        layer.compile()
    try:
        yield
    finally:
        for layer in layers:
            layer._compiled_call_impl = None


def fingerprint(model: PreTrainedModel) -> str:
    """A digest of sums over every weight: equal models have it in common, a change of one weight shows."""
    digest, weights = hashlib.sha256(), model.state_dict()
    if any(weight.is_meta for weight in weights.values()):  # they lie on disk
        from accelerate.utils.modeling import get_state_dict_offloaded_model

        weights = get_state_dict_offloaded_model(model)
    for name, weight in sorted(weights.items()):
        weight = in_fp64(weight)
        digest.update(f"{name} {weight.sum().item()!r} {weight.square().sum().item()!r}".encode())
    return digest.hexdigest()


def in_fp64(tensor: torch.Tensor) -> torch.Tensor:
    """``tensor`` in fp64, where it lies, or on the CPU if it lies on a Mac's GPU, which has no fp64."""
    return (tensor.cpu() if tensor.is_mps else tensor).double()


def folder(spec: ModelSpec) -> Path:
    """The folder of a model: its own, of its imported GGUF file, or in the hub's cache; :class:`ParameterError` where there is none."""
    if spec.gguf:
        return gguf.folder(spec)
    local = spec.root / spec.source
    return local if local.is_dir() else hub.fetch(spec.source, spec.revision)
