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

NEIGHBOURS = 4
"""Windows of one text in a row that count as one draw: the NLL of a window resembles that of the next."""


def tokens(texts: Iterable[Document], tokenizer: PreTrainedTokenizerBase, at_least: int | None = None) -> Tensor:
    """All documents as one int32 row of token ids, each document followed by the end-of-sequence token.

    With ``at_least``, reads no further once that many tokens are there.
    """
    texts, ids = iter(texts), []
    while chunk := [str(document) for document in islice(texts, 256)]:
        for row in tokenizer(chunk, add_special_tokens=False, verbose=False)["input_ids"]:
            ids += [*row, tokenizer.eos_token_id]
        if at_least is not None and len(ids) >= at_least:
            break
    return torch.tensor(ids, dtype=torch.int32)


def windows(row: Tensor, length: int, at_most: int | None = None) -> Tensor:
    """Cut a row of token ids into non-overlapping windows: int64, number x ``length``; a last, shorter one is dropped.

    Raises :class:`ParameterError` when the text is too short for one window.
    """
    number = len(row) // length
    if number == 0:
        raise ParameterError(_too_short(len(row), length))
    number = min(number, at_most or number)
    return row[: number * length].view(number, length).long()


def of_documents(
    texts: Iterable[Document], tokenizer: PreTrainedTokenizerBase, length: int, at_most: int
) -> tuple[Tensor, tuple[int, ...]]:
    """Windows for a test, int64, number x ``length``, and for each the cluster that it belongs to: windows of different clusters share no
    document.

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
    deepest = max(len(group) for group in groups) // length
    cut = [
        (number, group[depth * length : (depth + 1) * length])
        for depth in range(deepest)
        for number, group in enumerate(groups)
        if len(group) >= (depth + 1) * length
    ][:at_most]
    if not cut:
        raise ParameterError(_too_short(len(groups[-1]), length))
    clusters = [number for number, _ in cut] if len(groups) > 1 else [number // NEIGHBOURS for number in range(len(cut))]
    return torch.tensor([ids for _, ids in cut]), tuple(clusters)


def _too_short(number: int, length: int) -> str:
    return f"the text has {number} tokens, fewer than one window of {length}; take more text or a shorter window"


def random_windows(row: Tensor, length: int, number: int, seed: int) -> Tensor:
    """``number`` windows of ``length`` tokens at random places, as in the paper's calibration: int64.

    Raises :class:`ParameterError` when the text is too short for one window.
    """
    if len(row) < length:
        raise ParameterError(_too_short(len(row), length))
    generator = torch.Generator().manual_seed(seed)
    starts = torch.randint(len(row) - length + 1, (number,), generator=generator)
    return torch.stack([row[start : start + length] for start in starts.tolist()]).long()


def shuffled_batches(row: Tensor, length: int, batch_windows: int, seed: int) -> Callable[[int], Tensor]:
    """The batch of a step, int64, ``batch_windows`` x ``length``: a function of (seed, step) alone.

    Every epoch cuts ``row`` at another offset and takes the windows in another order. Raises :class:`ParameterError`
    when the text is too short for one batch.
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
