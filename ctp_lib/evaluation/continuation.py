"""What follows a context: how likely the right continuation is, and what the model itself would write."""

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from ctp_lib.evaluation.subject import Subject
from ctp_lib.model.likelihood import PromptCache, stitched, token_nll

BATCH = 32
"""Items that go through the model at a time."""


@torch.inference_mode()
def continuation_nll(subject: Subject, items: Tensor, continuation: int) -> Tensor:
    """Mean NLL in nats a token of the last ``continuation`` tokens of each of ``items`` (int64, number x length): fp64, one value an item."""
    found = torch.empty(len(items), dtype=torch.float64)
    for rows, part in subject.routed(items):
        before = None if part.prompt is None else PromptCache(part.network, part.prompt)
        batches = items[rows].split(BATCH)
        found[rows] = torch.cat(
            [token_nll(part.network, batch, before)[:, -continuation:].cpu().double().mean(1) for batch in batches]
        )
    return found


@torch.inference_mode()
def write_on(subject: Subject, tokenizer: PreTrainedTokenizerBase, context: Tensor, tokens: int) -> str:
    """The text that the subject puts after ``context`` (int64, one row), greedily, at most ``tokens`` tokens."""
    made: list[int] = []
    for _, part in subject.routed([context]):
        embedded = stitched(part.network, context[None].to(part.network.device), part.prompt)
        seen = torch.ones(embedded.shape[:2], dtype=torch.long, device=part.network.device)
        (made,) = part.network.generate(
            inputs_embeds=embedded, attention_mask=seen, max_new_tokens=tokens, do_sample=False, pad_token_id=tokenizer.eos_token_id
        )
    return tokenizer.decode(made, skip_special_tokens=True)
