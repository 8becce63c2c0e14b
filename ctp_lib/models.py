"""A causal LM and its tokenizer, from a hub id or a folder."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.logging import disable_progress_bar

from ctp_lib import study
from ctp_lib.study import ModelSpec, ParameterError

disable_progress_bar()  # a bar for every file read would bury the one that counts


def load_tokenizer(spec: ModelSpec) -> PreTrainedTokenizerBase:
    """The tokenizer of a model. Raises :class:`ParameterError` when there is none or it has no end-of-sequence token."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(_location(spec), revision=spec.revision)
    except (OSError, ValueError, KeyError) as error:
        raise ParameterError(f"model {spec.source!r} has no tokenizer that loads: {_first_line(error)}") from None
    if tokenizer.eos_token_id is None:
        raise ParameterError(f"model {spec.source!r}: its tokenizer names no end-of-sequence token; set eos_token in its config")
    return tokenizer


def load_model(spec: ModelSpec, folder: Path | None = None) -> PreTrainedModel:
    """The model in ``spec.dtype``, frozen and in evaluation mode; from ``folder`` when that is given (a compressed copy).

    Only safetensors weights are read. Raises :class:`ParameterError` when the model does not load.
    """
    source = str(folder or _location(spec))
    try:
        model = AutoModelForCausalLM.from_pretrained(
            source,
            revision=None if folder else spec.revision,
            dtype=getattr(torch, spec.dtype),
            use_safetensors=True,
        )
    except (OSError, ValueError, KeyError) as error:
        raise ParameterError(f"model {source!r} does not load: {_first_line(error)}") from None
    return model.to(device()).eval().requires_grad_(False)


def check_fit(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, positions: int) -> None:
    """Raise :class:`ParameterError` unless the tokenizer fits the embeddings and the context holds ``positions`` tokens."""
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise ParameterError(f"the tokenizer has {len(tokenizer)} tokens, the model embeds {rows}; take the model's own tokenizer")
    if positions > context(model):
        raise ParameterError(
            f"window and prompt need {positions} positions, the model has {context(model)}; shorten the window or the prompt in params.yaml"
        )


def context(model: PreTrainedModel) -> int:
    """How many positions the model takes; a very large number when its configuration names no limit."""
    return getattr(model.config, "max_position_embeddings", None) or 10**9


def check_same_prompts_fit(one: ModelSpec, other: ModelSpec) -> None:
    """Raise :class:`ParameterError` unless the two models have the same vocabulary and width, so that a prompt of one fits the other."""
    if load_tokenizer(one).get_vocab() != load_tokenizer(other).get_vocab():
        raise ParameterError(f"{one.source} and {other.source} have different tokenizers; a prompt only fits a model with the same")
    widths = [AutoConfig.from_pretrained(_location(spec), revision=spec.revision).hidden_size for spec in (one, other)]
    if widths[0] != widths[1]:
        raise ParameterError(
            f"{one.source} has width {widths[0]}, {other.source} {widths[1]}; a prompt only fits a model of the same width"
        )


def device() -> torch.device:
    """The GPU when there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def has_fast_bf16() -> bool:
    """Whether this machine multiplies bf16 matrices in hardware; emulated, they are slower than fp32."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def compressible(model: PreTrainedModel) -> dict[str, torch.nn.Linear]:
    """The weight matrices that compression acts on: every linear layer but the output head, by name."""
    head = model.get_output_embeddings()
    return {name: module for name, module in model.named_modules() if isinstance(module, torch.nn.Linear) and module is not head}


def parameter_count(model: PreTrainedModel) -> int:
    """Number of distinct parameters (tied ones counted once)."""
    return sum(parameter.numel() for parameter in model.parameters())


def fingerprint(model: PreTrainedModel) -> str:
    """A digest of sums over every weight: equal models have it in common, a change of one weight shows."""
    digest = hashlib.sha256()
    for name, weight in model.state_dict().items():
        weight = weight.double()
        digest.update(f"{name} {weight.sum().item()!r} {weight.square().sum().item()!r}".encode())
    return digest.hexdigest()


def _location(spec: ModelSpec) -> str:
    local = study.root() / spec.source
    return str(local) if local.is_dir() else spec.source


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
