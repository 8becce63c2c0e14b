"""Documents -> one row of token ids -> windows: end to end, at random places, or in the batches of a training."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ctp_lib.settings.spec import ParameterError
from ctp_lib.text.documents import Document

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NEIGHBOURS = 4  # windows of one text in a row that count as one draw: the NLL of a window resembles that of the next


def beginning(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The ids that ``tokenizer`` puts before every text (LLaMA and Gemma have one); most put none."""
    whole, plain = tokenizer("a")["input_ids"], tokenizer("a", add_special_tokens=False)["input_ids"]
    return next((whole[:first] for first in range(len(whole)) if whole[first : first + len(plain)] == plain), [])


def begun(found: Tensor, tokenizer: PreTrainedTokenizerBase) -> Tensor:
    """Windows that begin as the model was trained to see a text: the first token, which is context only, becomes the :func:`beginning`."""
    first = beginning(tokenizer)
    found = found.clone()
    found[:, : len(first)] = torch.tensor(first, dtype=found.dtype)
    return found


def tokens(texts: Iterable[Document], tokenizer: PreTrainedTokenizerBase, at_least: int | None = None) -> Tensor:
    """All documents, or enough for ``at_least`` tokens, as one int32 row of token ids, an end-of-sequence token behind each document."""
    texts, ids = iter(texts), []
    while chunk := [str(document) for document in islice(texts, 256)]:
        for row in tokenizer(chunk, add_special_tokens=False, verbose=False)["input_ids"]:
            ids += [*row, tokenizer.eos_token_id]
        if at_least is not None and len(ids) >= at_least:
            break
    return torch.tensor(ids, dtype=torch.int32)


def windows(row: Tensor, length: int, at_most: int | None = None) -> Tensor:
    """A row of token ids cut end to end: int64, number x ``length``; :class:`ParameterError` when it is too short for one window."""
    _check_length(len(row), length)
    number = min(len(row) // length, at_most or len(row))
    return row[: number * length].view(number, length).long()


def of_documents(
    texts: Iterable[Document], tokenizer: PreTrainedTokenizerBase, length: int, at_most: int
) -> tuple[Tensor, tuple[int, ...]]:
    """Windows for a test, int64, number x ``length``, and for each its cluster: windows of different clusters share no document.

    A window begins where a document begins, goes on through the documents after it, and drops what is left of its last one. Where there are
    too few documents for ``at_most`` windows, long ones give more than one. A text that is one document is cut into windows, and
    :data:`NEIGHBOURS` of them in a row make a cluster. Raises :class:`ParameterError` when the text is too short for one window.
    """
    groups: list[list[int]] = [[]]
    for document in texts:
        if len(groups[-1]) >= length:
            if len(groups) == at_most:
                break
            groups.append([])
        groups[-1] += [*tokenizer(str(document), add_special_tokens=False, verbose=False)["input_ids"], tokenizer.eos_token_id]
    longest = max(len(group) for group in groups)
    _check_length(longest, length)
    starts = range(0, longest - length + 1, length)
    places = [(number, start) for start in starts for number, group in enumerate(groups) if len(group) >= start + length][:at_most]
    clusters = [number for number, _ in places]
    if len(set(clusters)) == 1:
        clusters = [place // NEIGHBOURS for place in range(len(places))]
    return torch.tensor([groups[number][start : start + length] for number, start in places]), tuple(clusters)


def _check_length(number: int, length: int) -> None:
    if number < length:
        raise ParameterError(f"the text has {number} tokens, fewer than one window of {length}; take more text or a shorter window")


def random_windows(row: Tensor, length: int, number: int, seed: int) -> Tensor:
    """Windows at random places, as in the paper's calibration: int64, ``number`` x ``length``; :class:`ParameterError` for too short a text."""
    _check_length(len(row), length)
    generator = torch.Generator().manual_seed(seed)
    starts = torch.randint(len(row) - length + 1, (number,), generator=generator)
    return torch.stack([row[start : start + length] for start in starts.tolist()]).long()


def shuffled_batches(row: Tensor, length: int, batch_windows: int, seed: int) -> Callable[[int], Tensor]:
    """The batch of a step, int64, ``batch_windows`` x ``length``, by (seed, step) alone: every epoch cuts and orders anew.

    Raises :class:`ParameterError` when the text is too short for one batch.
    """
    batches = (len(row) - length) // length // batch_windows
    if batches < 1:
        raise ParameterError(f"the text has {len(row)} tokens, too few for a batch of {batch_windows} windows of {length}")

    def batch(step: int) -> Tensor:
        epoch, position = divmod(step, batches)
        generator = torch.Generator().manual_seed(seed * 100_003 + epoch)
        offset = int(torch.randint(length, (1,), generator=generator))
        order = torch.randperm(batches * batch_windows, generator=generator)
        starts = offset + length * order[position * batch_windows : (position + 1) * batch_windows]
        return torch.stack([row[start : start + length] for start in starts.tolist()]).long()

    return batch
