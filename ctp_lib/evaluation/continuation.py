"""What follows a context: how likely the right continuation is, and what the model itself would write."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ctp_lib.likelihood import stitched, token_nll
from ctp_lib.prompt_cache import PromptCache

BATCH = 32
"""Items that go through the model at a time."""


@torch.inference_mode()
def continuation_nll(model: PreTrainedModel, items: Tensor, continuation: int, prompt: Tensor | None = None) -> Tensor:
    """Mean NLL in nats a token of the last ``continuation`` tokens of each item: fp64, one value an item.

    ``items`` are int64 ids, number x length; ``prompt`` is n x hidden.
    """
    before = None if prompt is None else PromptCache(model, prompt)
    scored = [token_nll(model, batch, before)[:, -continuation:].double().mean(1) for batch in items.split(BATCH)]
    return torch.cat(scored).cpu()


@torch.inference_mode()
def write_on(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, context: Tensor, tokens: int, prompt: Tensor | None = None
) -> str:
    """The text that the model puts after ``context`` (int64, one row), greedily, at most ``tokens`` tokens."""
    embedded = stitched(model, context[None].to(model.device), prompt)
    seen = torch.ones(embedded.shape[:2], dtype=torch.long, device=model.device)
    made = model.generate(
        inputs_embeds=embedded, attention_mask=seen, max_new_tokens=tokens, do_sample=False, pad_token_id=tokenizer.eos_token_id
    )
    return tokenizer.decode(made[0], skip_special_tokens=True)
