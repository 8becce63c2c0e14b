"""Which tokens an experiment reads: for calibration, for training, for validation, for the test."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from ctp_lib import corpora, places
from ctp_lib.study import ParameterError, Study, TrainingSpec


def shuffled_documents(settings: Study, part: str) -> list[corpora.Document]:
    """One split of all corpora together, in an order drawn with the study's seed."""
    texts = [
        text for corpus in settings.corpora.sources for text in corpora.documents(places.corpora_folder(settings), corpus, part)
    ]
    random.Random(settings.seed).shuffle(texts)
    return texts


def calibration_windows(settings: Study, tokenizer: PreTrainedTokenizerBase) -> Tensor:
    """The calibration tokens of the compression: random windows of the training split, int64, windows x window."""
    spec = settings.compression
    texts = corpora.documents(places.corpora_folder(settings), spec.corpus, "train")
    row = corpora.tokens(texts, tokenizer, at_least=20 * spec.windows * spec.window)
    return corpora.random_windows(row, spec.window, spec.windows, settings.seed)


@dataclass(frozen=True)
class TrainingText:
    """What a training reads: the batch of each step (int64, windows x window), the validation windows, and a digest of it all."""

    batch: Callable[[int], Tensor]
    validation: Tensor
    digest: str


def training_text(settings: Study, tokenizer: PreTrainedTokenizerBase, corpus: str, spec: TrainingSpec, seed: int) -> TrainingText:
    """The text of one corpus for a training, in windows as long as the evaluation's; ``seed`` orders them."""
    window = settings.evaluation.window
    texts = corpora.documents(places.corpora_folder(settings), corpus, "train")
    row = corpora.tokens(texts, tokenizer, at_least=(spec.steps * spec.batch_windows + 1) * window)
    validation = split_windows(settings, tokenizer, corpus, "validation")
    batch = corpora.shuffled_batches(row, window, spec.batch_windows, seed)
    return TrainingText(batch, validation, digest(row, validation))


def split_windows(
    settings: Study, tokenizer: PreTrainedTokenizerBase, corpus: str, part: str, at_most: int | None = None
) -> Tensor:
    """The windows of a held-out split that are scored: int64, number x window."""
    window, number = settings.evaluation.window, at_most or settings.evaluation.windows[part]
    texts = corpora.documents(places.corpora_folder(settings), corpus, part)
    return corpora.windows(corpora.tokens(texts, tokenizer, at_least=number * window), window, number)


@dataclass(frozen=True)
class ScoredText:
    """The windows of one corpus's test split that are scored (int64, number x window) and the bytes of a scored token."""

    windows: Tensor
    bytes_per_token: float
    digest: str


def scored_texts(
    settings: Study, tokenizer: PreTrainedTokenizerBase, *, of: Iterable[str] | None = None, at_most: int | None = None
) -> dict[str, ScoredText]:
    """What is scored of the corpora ``of`` (all, unless some are named): ``at_most`` windows of each, or as many as
    ``evaluation.windows`` says.
    """
    found = {}
    for corpus in settings.corpora.sources if of is None else of:
        windows = split_windows(settings, tokenizer, corpus, "test", at_most)
        scored = windows[:, 1:]
        size = sum(len(part.encode()) for part in tokenizer.batch_decode(scored, skip_special_tokens=True))
        found[corpus] = ScoredText(windows, size / scored.numel(), digest(windows))
    return found


def beginnings(settings: Study, tokenizer: PreTrainedTokenizerBase) -> Tensor:
    """What written prompts are tried on: the first tokens of test documents of the broad corpus, ``hard_prompt.items`` of them, each as
    long as what is read and what is scored: int64, items x (context + continuation).

    Raises :class:`ParameterError` when too few documents are as long.
    """
    corpus, number = settings.soft_prompt.corpus, settings.hard_prompt.items
    length, found = settings.hard_prompt.context + settings.hard_prompt.continuation, []
    for document in corpora.documents(places.corpora_folder(settings), corpus, "test"):
        ids = tokenizer(str(document), add_special_tokens=False, verbose=False)["input_ids"]
        if len(ids) >= length:
            found.append(ids[:length])
        if len(found) == number:
            return torch.tensor(found)
    raise ParameterError(
        f"{corpus} has {len(found)} test documents of {length} tokens or more, hard_prompt.items asks for {number}; ask for fewer"
    )


def check_windows(settings: Study, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise :class:`ParameterError` unless the held-out text of every corpus gives two windows or more."""
    for corpus in settings.corpora.sources:
        for split in ("validation", "test"):
            if len(split_windows(settings, tokenizer, corpus, split, at_most=2)) < 2:
                raise ParameterError(
                    f"{corpus} has fewer than two {split} windows of {settings.evaluation.window} tokens; take more text, or a shorter "
                    "evaluation.window"
                )


def digest(*tokens: Tensor) -> str:
    """A short digest of token ids: two scores may be compared when it is the same for both."""
    whole = hashlib.sha256()
    for row in tokens:
        whole.update(row.long().cpu().numpy().tobytes())
    return whole.hexdigest()[:16]
