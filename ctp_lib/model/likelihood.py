"""The NLL of every real token, with or without a prompt before it, without holding the logits of all tokens at once.

Logits of four windows of 1,024 tokens, of a vocabulary of 32,000, take half a gigabyte in fp32, their softmax and its gradient as much again.
With a frozen head, none of this has to be kept: the gradient with respect to the head's input is computed together with the logits, some rows
at a time. (torch's ``linear_cross_entropy`` does so too, but in the dtype of its input: in bf16 a mean was wrong by 0.06 nats.)
"""

from __future__ import annotations

import copy
import math
import weakref
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import Cache, DynamicCache, PreTrainedModel

from ctp_lib.settings.spec import ParameterError

ChunkLoss = Callable[[Tensor, slice, bool], tuple[Tensor, Tensor | None]]
ROWS_AT_ONCE = {"cpu": 384, "cuda": 2048, "mps": 2048}
"""Tokens whose logits are in memory at a time. Each chunk reads the head's whole weight twice: with 83 rows it took twice as long."""


def token_nll(model: PreTrainedModel, windows: Tensor, prompt: Tensor | PromptCache | None = None) -> Tensor:
    """NLL in nats of every token of ``windows`` but the first of each: fp32, number x (length - 1).

    ``windows`` are int64 ids, number x length; ``prompt`` is n x hidden, or its keys and values where it gets no gradient. The first token
    is context only, also where a prompt could predict it: with and without a prompt the same tokens are scored.
    """
    rows, head = predicting_rows(model, windows, prompt)
    targets = windows[:, 1:].flatten().to(rows.device)
    if head is None:
        nll = cross_entropy(rows, targets, reduction="none")
    else:
        nll = FrozenHeadLoss.apply(rows, head, partial(nll_of_chunk, targets))
    return nll.view(len(windows), -1)


def predicting_rows(model: PreTrainedModel, windows: Tensor, prompt: Tensor | PromptCache | None) -> tuple[Tensor, Head | None]:
    """What predicts every token of ``windows`` but the first of each, number (length - 1) rows: last hidden states, and the head behind them.

    Where there is no such head: the logits themselves in fp32, and None.
    """
    length, cached = windows.shape[1], isinstance(prompt, PromptCache)
    embedded = stitched(model, windows.to(model.device), None if cached else prompt)
    read = {"inputs_embeds": embedded, "use_cache": cached, **({"past_key_values": prompt} if cached else {})}
    head = frozen_head(model)
    if head is None:
        rows = model(**read, logits_to_keep=length).logits[:, :-1].float()
    else:
        rows = _unwrapped(model).get_decoder()(**read).last_hidden_state[:, -length:-1].to(head.linear.weight.device)
    return rows.flatten(0, 1), head


def stitched(model: PreTrainedModel, windows: Tensor, prompt: Tensor | None) -> Tensor:
    """What enters the first layer: the embeddings of ``windows`` (int64, number x length) behind ``prompt`` (n x hidden)."""
    embedded = model.get_input_embeddings()(windows)
    if prompt is None:
        return embedded
    return torch.cat([prompt.to(embedded).expand(len(windows), *prompt.shape), embedded], dim=1)


def after_prompt(model: PreTrainedModel, prompt: Tensor | Cache | None, *, with_gradient: bool = False) -> DynamicCache:
    """One row of keys and values of ``prompt`` (n x hidden, or these themselves) in every layer of ``model``; empty without one. Its
    gradient goes through them ``with_gradient``.
    """
    cache = DynamicCache(config=model.config)
    if isinstance(prompt, Cache):
        cache.layers = [copy.copy(layer) for layer in prompt.layers]  # which put new tensors in the place of theirs
        return cache
    if prompt is not None:
        embedded = prompt.to(model.get_input_embeddings().weight)[None]
        with nullcontext() if with_gradient else torch.inference_mode():
            model.get_decoder()(inputs_embeds=embedded, past_key_values=cache, use_cache=True)
    return cache


class PromptCache(Cache):
    """A prompt's keys and values, computed once for any number of windows; what is read behind them is not kept, as generating would."""

    def __init__(self, model: PreTrainedModel, prompt: Tensor | Cache, *, with_gradient: bool = False):
        super().__init__(layers=after_prompt(model, prompt, with_gradient=with_gradient).layers)

    def update(self, keys: Tensor, values: Tensor, layer: int, *rest: Any, **more: Any) -> tuple[Tensor, Tensor]:
        """The prompt's keys and values, the same in every row, with those of the windows behind them."""
        own = copy.copy(self.layers[layer])
        own.keys, own.values = (kept.expand(len(keys), *kept.shape[1:]) for kept in (own.keys, own.values))
        return own.update(keys, values, *rest, **more)


@torch.inference_mode()
def check_prompt_cache(model: PreTrainedModel) -> None:
    """Raise :class:`ParameterError` where two short texts score otherwise behind the keys and values of a prompt than behind the prompt itself:
    such a model keeps more between tokens, or other things (Mamba, RecurrentGemma).
    """
    table = model.get_input_embeddings()
    ids = torch.arange(2 * 8).view(2, 8) % table.num_embeddings
    prompt = table(torch.arange(4, device=model.device))
    whole = token_nll(model, ids, prompt)
    effect = (token_nll(model, ids) - whole).abs().max().item()
    try:
        apart = (token_nll(model, ids, PromptCache(model, prompt)) - whole).abs().max().item()
    except (AttributeError, RuntimeError, TypeError, ValueError):
        apart = math.inf
    share, least = (0.01, 0.01) if model.dtype == torch.float32 else (0.3, 0.1)  # in 16 bits both are rounded
    if not apart <= share * max(effect, least):
        name = type(model).__name__
        raise ParameterError(
            f"{name} keeps more than keys and values between tokens, so a prompt cannot be read once; take another model"
        )


@dataclass(frozen=True)
class Head:
    """Hidden states -> logits: a linear layer, and tanh(logits / cap) * cap where the model caps them."""

    linear: nn.Linear
    cap: float | None

    def __call__(self, hidden: Tensor) -> Tensor:
        """The logits in fp32, rows x vocabulary."""
        logits = self.linear(hidden).float()
        return logits if self.cap is None else logits.div_(self.cap).tanh_().mul_(self.cap)


_heads: weakref.WeakKeyDictionary[nn.Module, tuple[nn.Module | None, Head | None]] = weakref.WeakKeyDictionary()
"""By model: its output layer, and what was found of it."""


def frozen_head(model: PreTrainedModel) -> Head | None:
    """How the last hidden states of ``model`` become logits; None where its head is trained, lies on disk, or does more than :class:`Head`."""
    base = _unwrapped(model)
    layer, head = _heads.get(base, (None, None))
    if layer is None or layer is not base.get_output_embeddings():  # an adapter, or another vocabulary, puts a new layer there
        layer, head = _heads[base] = base.get_output_embeddings(), _find_head(base)
    if head is None or head.linear.weight.is_meta:  # on disk until it is needed
        return None
    return None if any(weight.requires_grad for weight in head.linear.parameters()) else head


def _find_head(model: PreTrainedModel) -> Head | None:
    """Run two tokens and look: whether the head reads the last hidden states themselves, and the logits are what it gives."""
    linear, seen = model.get_output_embeddings(), {}
    if type(linear) is not nn.Linear:
        return None
    ids = torch.zeros(1, 2, dtype=torch.int64, device=model.device)
    drawing = [] if model.device.type == "cpu" else [model.device.index or 0]
    with (
        model.get_decoder().register_forward_hook(lambda _, __, output: seen.update(hidden=output.last_hidden_state)),
        linear.register_forward_hook(lambda _, inputs, output: seen.update(entered=inputs[0], left=output)),
        torch.no_grad(),
        torch.random.fork_rng(drawing, device_type=model.device.type),  # dropout must not move the draws of the training
    ):
        logits = model(inputs_embeds=model.get_input_embeddings()(ids), use_cache=False).logits
    if "hidden" not in seen or seen["entered"].untyped_storage()._cdata != seen["hidden"].untyped_storage()._cdata:
        return None
    cap = getattr(model.config.get_text_config(), "final_logit_softcapping", None)
    return Head(linear, cap) if cap is not None or logits is seen["left"] else None


def _unwrapped(model: PreTrainedModel) -> PreTrainedModel:
    """The model itself, where ``model`` is PEFT's wrapper around it."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


class FrozenHeadLoss(torch.autograd.Function):
    """Rows of hidden states -> a loss of each in fp32; keeps its gradient, as large as the rows, and no logits.

    ``of_chunk(logits, part, slope)`` gives the losses of the rows ``part`` and, with ``slope``, their gradient by the logits, which it may
    write over.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, head: Head, of_chunk: ChunkLoss) -> Tensor:
        """The loss of every row, fp32; its gradient is kept."""
        weight = head.linear.weight
        losses = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        gradient = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        rows = ROWS_AT_ONCE[hidden.device.type]
        for first in range(0, len(hidden), rows):
            part = slice(first, first + rows)
            logits = head(hidden[part])
            flatter = None if head.cap is None or gradient is None else 1 - (logits / head.cap).square()
            losses[part], of_logits = of_chunk(logits, part, gradient is not None)
            if gradient is not None:
                of_logits = of_logits if flatter is None else of_logits.mul_(flatter)
                gradient[part] = of_logits.to(weight.dtype) @ weight
            del logits, of_logits, flatter  # before the next chunk's are made
        ctx.save_for_backward(gradient)
        return losses

    @staticmethod
    def backward(ctx: Any, of_losses: Tensor) -> tuple[Tensor, None, None]:
        """The gradient of the rows that was kept, times that of their losses."""
        (gradient,) = ctx.saved_tensors
        return (gradient * of_losses[:, None]).to(gradient.dtype), None, None


def nll_of_chunk(targets: Tensor, logits: Tensor, part: slice, slope: bool) -> tuple[Tensor, Tensor | None]:
    """The NLL of the rows ``part`` by their ``logits``, which are written over, and with ``slope`` its gradient."""
    chosen = targets[part, None]
    of_target, largest = logits.gather(1, chosen), logits.amax(1, keepdim=True)
    weights = logits.sub_(largest).exp_()  # in place: logsumexp would make this once more
    total = weights.sum(1, keepdim=True)
    nll = (total.log() + largest - of_target)[:, 0]
    return nll, weights.div_(total).scatter_add_(1, chosen, -torch.ones_like(total)) if slope else None
