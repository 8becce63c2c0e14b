"""What is evaluated: a network, and the vectors before its input if there are any; how likely it finds a continuation, and what it writes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ctp_lib.model.likelihood import PromptCache, stitched, token_nll

BATCH = 32  # items that go through the model at a time


@dataclass(frozen=True)
class Subject:
    """``network`` behind ``prompt`` (n x hidden), or alone. It can be scored, asked and made to write."""

    network: PreTrainedModel
    prompt: Tensor | None = None

    def routed(self, inputs: Sequence[Tensor]) -> Iterator[tuple[list[int], Subject]]:
        """Which of ``inputs`` (rows of token ids) go to which subject: here all to this one; each is good until the next is asked for."""
        yield list(range(len(inputs))), self


@torch.inference_mode()
def continuation_nll(subject: Subject, items: Tensor, continuation: int) -> Tensor:
    """Mean NLL in nats a token of the last ``continuation`` tokens of each of ``items`` (int64, number x length): fp64, one value an item."""
    found = torch.empty(len(items), dtype=torch.float64)
    for rows, part in subject.routed(items):
        before = None if part.prompt is None else PromptCache(part.network, part.prompt)
        losses = [token_nll(part.network, batch, before)[:, -continuation:] for batch in items[rows].split(BATCH)]
        found[rows] = torch.cat([nll.cpu().double().mean(1) for nll in losses])
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
