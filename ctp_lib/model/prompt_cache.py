"""A prompt's keys and values in every layer, computed once for all that is read behind it.

A window of 256 tokens behind 100 vectors has 356 positions, of which 100 are the same for every window.
"""

import copy
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, DynamicCache, PreTrainedModel


@torch.inference_mode()
def after_prompt(model: PreTrainedModel, prompt: Tensor | None) -> DynamicCache:
    """One row of keys and values of ``prompt`` (n x hidden) in every layer of ``model``; empty without one."""
    cache = DynamicCache(config=model.config)
    if prompt is not None:
        embedded = prompt.to(model.get_input_embeddings().weight)[None]
        model.get_decoder()(inputs_embeds=embedded, past_key_values=cache, use_cache=True)
    return cache


class PromptCache(Cache):
    """Stands before any number of windows, and stays as it is: what is read behind it is not kept, as generating would have it."""

    def __init__(self, model: PreTrainedModel, prompt: Tensor):
        super().__init__(layers=after_prompt(model, prompt).layers)

    def update(self, keys: Tensor, values: Tensor, layer: int, *rest: Any, **more: Any) -> tuple[Tensor, Tensor]:
        """The prompt's keys and values, the same in every row, with those of the windows behind them."""
        own = copy.copy(self.layers[layer])
        own.keys, own.values = (kept.expand(len(keys), *kept.shape[1:]) for kept in (own.keys, own.values))
        return own.update(keys, values, *rest, **more)
