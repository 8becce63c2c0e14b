"""lm-eval's causal LM behind a soft prompt, whose keys and values are computed once for all requests.

lm-eval's own runs every request whole: prompt, context and answer, and that once for each of four answers. Here what requests share is
computed once: the prompt by all, a context by its answers. Rows are padded on the right, where a causal model does not look, so
there is no mask to get wrong, and logits are computed only where a token is scored.
"""

import copy
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from lm_eval.models.huggingface import HFLM
from tqdm import tqdm
from transformers import Cache, PreTrainedModel, PreTrainedTokenizerBase

from ctp_lib.evaluation.subject import Subject, write_on
from ctp_lib.model.likelihood import after_prompt, frozen_head
from ctp_lib.settings.spec import ParameterError
from ctp_lib.text import windows

Request = tuple[tuple[str, str], list[int], list[int]]  # lm-eval's: what was asked in words, the context's tokens, the answer's
WRITTEN = 32  # tokens, where a task does not say how many
ALIKE = 0.75
"""Contexts that go through the model together are no shorter than this share of the longest: what they lack in common, each answer repeats."""

SHARED = 0.5
"""Contexts with this share in common, such as a passage, go through the model as one, and what they differ in goes with each answer."""


@dataclass(frozen=True)
class _Row:
    """One request: the tokens fed to the model, of which the last ``len(scored)`` positions predict ``scored``."""

    number: int
    fed: list[int]
    scored: list[int]


@dataclass(frozen=True)
class _Question:
    """A context and the rows that go on from it; each row's ``fed`` begins with ``context``."""

    context: tuple[int, ...]
    rows: list[_Row]

    @property
    def longest(self) -> int:
        """Tokens of its longest row."""
        return max(len(row.fed) for row in self.rows)


class StitchedLM(HFLM):
    """lm-eval's model for a :class:`Subject`; its window ``max_length`` and ``tokens_at_once`` count real tokens, with and without a prompt."""

    def __init__(self, subject: Subject, tokenizer: PreTrainedTokenizerBase, *, max_length: int, tokens_at_once: int):
        super().__init__(subject.network, tokenizer=tokenizer, max_length=max_length, backend="causal")
        self._tokens_at_once, self._subject, self._beginning = tokens_at_once, subject, windows.beginning(tokenizer)

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, left_truncate_len: int | None = None, **_
    ) -> list[int]:
        """The tokens of a text, behind those that every text begins with; what a tokenizer puts *behind* a text would stand before answers."""
        begun = [] if add_special_tokens is False or string.startswith(self.tokenizer.decode(self._beginning)) else self._beginning
        ids = begun + self.tokenizer.encode(string, add_special_tokens=False)
        return ids[-left_truncate_len:] if left_truncate_len else ids

    @torch.inference_mode()
    def _loglikelihood_tokens(
        self, requests: list[Request], disable_tqdm: bool = False, override_bs: int | None = None
    ) -> list[tuple[float, bool]]:
        """The log-likelihood of each answer behind its context, in nats, and whether each of its tokens was the likeliest."""
        found: list[tuple[float, bool]] = [(0.0, False)] * len(requests)
        with tqdm(total=len(requests), disable=disable_tqdm, desc="requests", unit="request", mininterval=1.0) as bar:
            for numbers, part in self._subject.routed([torch.tensor(context) for _, context, _ in requests]):
                prefix = after_prompt(part.network, part.prompt)
                asked = _questions({number: requests[number] for number in numbers}, self.max_length, self._tokens_at_once)
                for together in self._batches(asked):
                    rows = [row for question in together for row in question.rows]
                    for row, answer in zip(rows, _score(part.network, prefix, together), strict=True):
                        found[row.number] = answer
                        self.cache_hook.add_partial("loglikelihood", requests[row.number][0], answer)
                    bar.update(len(rows))
        return found

    def generate_until(self, requests: list, disable_tqdm: bool = False) -> list[str]:
        """What the subject writes behind each context, greedily, up to one of its ``until``, or to ``max_gen_toks`` (or 32) tokens. A context
        loses tokens at its beginning where both do not fit into the window. Raises :class:`ParameterError` for a task that draws its tokens.
        """
        found = []
        for request in tqdm(requests, disable=disable_tqdm, desc="texts", unit="text", mininterval=1.0):
            context, how = request.args
            if how.get("do_sample") or how.get("num_beams", 1) != 1:
                raise ParameterError("a task draws the tokens that it writes, or searches for them; take tasks that write greedily")
            text = self.write(context, min(how.get("max_gen_toks", WRITTEN), self.max_length - 1))
            until = how.get("until", [])
            for end in filter(None, [until] if isinstance(until, str) else until):
                text = text.partition(end)[0]
            found.append(text)
        return found

    def write(self, context: str, tokens: int) -> str:
        """The ``tokens`` tokens at most that the subject writes behind ``context``, greedily."""
        ids = torch.tensor(self.tok_encode(context, left_truncate_len=self.max_length - tokens))
        return write_on(self._subject, self.tokenizer, ids, tokens)

    def _batches(self, questions: list[_Question]) -> Iterator[list[_Question]]:
        """Questions of nearly the same length, as many at a time as there is room for; those with one answer by themselves."""
        for shared in (False, True):
            batch: list[_Question] = []
            alike = [question for question in questions if (len(question.rows) > 1) == shared]
            for question in sorted(alike, key=lambda question: (-len(question.context), -question.longest)):
                together = [*batch, question]
                rows, longest = sum(len(one.rows) for one in together), max(one.longest for one in together)
                alike = len(question.context) >= ALIKE * len(together[0].context)
                if batch and not (alike and rows * longest <= self._tokens_at_once):
                    yield batch
                    together = [question]
                batch = together
            if batch:
                yield batch


def _score(model: PreTrainedModel, prefix: Cache, questions: Sequence[_Question]) -> Iterator[tuple[float, bool]]:
    """What contexts of this batch have in length goes through the model once; the few tokens beyond that go with each answer."""
    rows = [(place, row) for place, question in enumerate(questions) for row in question.rows]
    common = min(len(question.context) for question in questions) - 1 if len(rows) > len(questions) else 0
    cache = _rows(copy.deepcopy(prefix), [0] * len(questions))
    if common:
        ids = torch.tensor([question.context[:common] for question in questions], device=model.device)
        model.get_decoder()(input_ids=ids, past_key_values=cache, use_cache=True)
    cache = _rows(cache, [place for place, _ in rows])
    return _likelihoods(model, cache, [_Row(row.number, row.fed[common:], row.scored) for _, row in rows])


def _questions(requests: Mapping[int, Request], max_length: int, tokens_at_once: int) -> list[_Question]:
    """Requests, by their number, by what stands before their answer, or by most of it, while they have no more than ``tokens_at_once``; too long
    ones lose tokens at their beginning, as in lm-eval.

    Raises :class:`ParameterError` for an answer that has no tokens, or more than ``max_length``.
    """
    by_context: dict[tuple[int, ...], list[_Row]] = defaultdict(list)
    for number, ((_, words), context, answer) in requests.items():
        if not answer:
            raise ParameterError("a task has an item with an empty answer; leave it out")
        if len(answer) > max_length:
            raise ParameterError(
                f"an answer is longer than the window of {max_length} tokens: {words[:60]!r}; take a longer window"
            )
        whole = (context + answer)[-(max_length + 1) :]
        by_context[tuple(whole[: -len(answer)])].append(_Row(number, whole[:-1], answer))
    questions: list[_Question] = []
    for context in sorted(by_context):  # so that those with the same beginning follow each other
        own, last = _Question(context, by_context[context]), questions[-1] if questions else _Question((), [])
        differ = (number for number, (one, other) in enumerate(zip(last.context, context, strict=False)) if one != other)
        beginning = context[: next(differ, min(len(last.context), len(context)))]
        both = _Question(beginning, [*last.rows, *own.rows])
        if len(beginning) >= SHARED * len(context) and both.longest * len(both.rows) <= tokens_at_once:
            questions[-1] = both
        else:
            questions.append(own)
    return questions


def _rows(cache: Cache, rows: list[int]) -> Cache:
    """``cache`` with a copy of one of its rows for each of ``rows``, in place; an empty one has no rows."""
    if cache.get_seq_length():
        cache.batch_select_indices(torch.tensor(rows, device=cache.layers[0].keys.device))
    return cache


def _likelihoods(model: PreTrainedModel, cache: Cache, rows: Sequence[_Row]) -> Iterator[tuple[float, bool]]:
    longest, head = max(len(row.fed) for row in rows), frozen_head(model)
    ids = torch.tensor([row.fed + [0] * (longest - len(row.fed)) for row in rows], device=model.device)
    if head is None:
        states = model(input_ids=ids, past_key_values=cache, use_cache=True).logits
    else:
        states = model.get_decoder()(input_ids=ids, past_key_values=cache, use_cache=True).last_hidden_state
    lengths = [len(row.scored) for row in rows]
    places = [place for place, length in enumerate(lengths) for _ in range(length)]
    positions = [position for row in rows for position in range(len(row.fed) - len(row.scored), len(row.fed))]
    wanted = torch.tensor([token for row in rows for token in row.scored], device=model.device)
    logits = states[places, positions]
    logits = logits.float() if head is None else head(logits)
    likelihood, greedy = logits.log_softmax(-1).gather(1, wanted[:, None])[:, 0], logits.argmax(-1) == wanted
    for values, best in zip(likelihood.cpu().split(lengths), greedy.cpu().split(lengths), strict=True):
        yield values.double().sum().item(), bool(best.all())
