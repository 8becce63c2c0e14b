"""What is evaluated: a network, and the vectors before its input if there are any; how likely it finds a continuation, and what it writes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import Cache, PreTrainedModel, PreTrainedTokenizerBase

from ctp_lib.model.likelihood import PromptCache, after_prompt, stitched, token_nll

BATCH = 32  # items that go through the model at a time, unless said


@dataclass(frozen=True)
class Subject:
    """``network`` behind ``prompt`` (n x hidden, or one row of keys and values), or alone. It can be scored, asked and made to write."""

    network: PreTrainedModel
    prompt: Tensor | Cache | None = None

    @property
    def prompt_tokens(self) -> int:
        """Positions before the input."""
        if isinstance(self.prompt, Cache):
            return self.prompt.get_seq_length()
        return 0 if self.prompt is None else len(self.prompt)

    def routed(self, inputs: Sequence[Tensor]) -> Iterator[tuple[list[int], Subject]]:
        """Which of ``inputs`` (rows of token ids) go to which subject: here all to this one; each is good until the next is asked for."""
        yield list(range(len(inputs))), self


@torch.inference_mode()
def continuation_nll(subject: Subject, items: Tensor, continuation: int, *, at_once: int = BATCH) -> Tensor:
    """Mean NLL in nats per token of the last ``continuation`` tokens of each of ``items`` (int64, number x length): fp64, one value an item.

    ``at_once`` items go through the model together.
    """
    found = torch.empty(len(items), dtype=torch.float64)
    for rows, part in subject.routed(items):
        before = None if part.prompt is None else PromptCache(part.network, part.prompt)
        losses = [token_nll(part.network, batch, before)[:, -continuation:] for batch in items[rows].split(at_once)]
        found[rows] = torch.cat([nll.cpu().double().mean(1) for nll in losses])
    return found


@torch.inference_mode()
def write_on(subject: Subject, tokenizer: PreTrainedTokenizerBase, context: Tensor, tokens: int) -> str:
    """The text that the subject puts after ``context`` (int64, one row), greedily, at most ``tokens`` tokens, up to an end of text.

    The likeliest token each time: what a model's own settings ask for beyond that, such as a penalty on repetitions, is left out.
    """
    made: list[int] = []
    for _, part in subject.routed([context]):
        ends = part.network.generation_config.eos_token_id
        ends = ends if isinstance(ends, list) else [tokenizer.eos_token_id if ends is None else ends]
        if isinstance(part.prompt, Cache):
            made = _behind(part, context.to(part.network.device), tokens, ends)
            continue
        embedded = stitched(part.network, context[None].to(part.network.device), part.prompt)
        seen = torch.ones(embedded.shape[:2], dtype=torch.long, device=part.network.device)
        plain = {"do_sample": False, "repetition_penalty": 1.0, "no_repeat_ngram_size": 0}
        stop = {"max_new_tokens": tokens, "eos_token_id": ends, "pad_token_id": tokenizer.eos_token_id}
        (made,) = part.network.generate(inputs_embeds=embedded, attention_mask=seen, **plain, **stop)
    return tokenizer.decode(made, skip_special_tokens=True)


def _behind(part: Subject, ids: Tensor, tokens: int, ends: Sequence[int]) -> list[int]:
    """The likeliest tokens one after the other behind keys and values, with which transformers' own writing does not begin."""
    cache, made = after_prompt(part.network, part.prompt), []
    while len(made) < tokens and not set(ends).intersection(made):
        ids = part.network(input_ids=ids[None], past_key_values=cache, use_cache=True).logits[0, -1:].argmax(-1)
        made += ids.tolist()
    return made
