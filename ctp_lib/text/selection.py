"""Which tokens an experiment reads: for calibration, for training, for validation, for the test."""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from ctp_lib.settings import digests, paths
from ctp_lib.settings.learning import TrainingSpec
from ctp_lib.settings.spec import ParameterError
from ctp_lib.settings.study import Study
from ctp_lib.text import documents, windows


def shuffled_documents(settings: Study, part: str, of: Iterable[str] = ()) -> list[documents.Document]:
    """One split of the corpora ``of`` (all, unless some are named) together, in an order drawn with the study's seed."""
    folder = paths.corpora(settings)
    texts = [text for corpus in of or settings.corpora.sources for text in documents.documents(folder, corpus, part)]
    random.Random(settings.seed).shuffle(texts)
    return texts


def calibration_windows(settings: Study, tokenizer: PreTrainedTokenizerBase) -> Tensor:
    """The calibration tokens of the compression: random windows of the training split, int64, windows x window."""
    spec = settings.compression
    texts = documents.documents(paths.corpora(settings), spec.corpus, "train")
    row = windows.tokens(texts, tokenizer, at_least=20 * spec.windows * spec.window)
    return windows.begun(windows.random_windows(row, spec.window, spec.windows, settings.seed), tokenizer)


@dataclass(frozen=True)
class TrainingText:
    """What something is learned from: the batch of each step (int64, windows x window), the validation windows, and a digest of both.

    For methods that look at the model's inputs or at words also the windows that it was calibrated on, and the tokenizer.
    """

    batch: Callable[[int], Tensor]
    validation: Tensor
    digest: str
    calibration: Callable[[], Tensor] | None = None
    tokenizer: PreTrainedTokenizerBase | None = None


def training_text(settings: Study, tokenizer: PreTrainedTokenizerBase, corpus: str, spec: TrainingSpec, seed: int) -> TrainingText:
    """The text of one corpus for a training, in windows as long as the evaluation's; ``seed`` orders them."""
    window = settings.evaluation.window
    texts = documents.documents(paths.corpora(settings), corpus, "train")
    row = windows.tokens(texts, tokenizer, at_least=(spec.steps * spec.batch_windows + 1) * window)
    validation = split_windows(settings, tokenizer, corpus, "validation")
    cut = windows.shuffled_batches(row, window, spec.batch_windows, seed)

    def batch(step: int) -> Tensor:
        return windows.begun(cut(step), tokenizer)

    return TrainingText(batch, validation, digest(row, validation), partial(calibration_windows, settings, tokenizer), tokenizer)


def split_windows(
    settings: Study, tokenizer: PreTrainedTokenizerBase, corpus: str, part: str, at_most: int | None = None
) -> Tensor:
    """The windows of a held-out split that are scored: int64, number x window."""
    window, number = settings.evaluation.window, at_most or settings.evaluation.windows[part]
    texts = documents.documents(paths.corpora(settings), corpus, part)
    return windows.begun(windows.windows(windows.tokens(texts, tokenizer, at_least=number * window), window, number), tokenizer)


@dataclass(frozen=True)
class ScoredText:
    """The windows of a test split that are scored (int64, number x window), the cluster of documents of each, and the bytes of a token."""

    windows: Tensor
    clusters: tuple[int, ...]
    bytes_per_token: float
    digest: str


def scored_texts(
    settings: Study, tokenizer: PreTrainedTokenizerBase, *, of: Iterable[str] | None = None, at_most: int | None = None
) -> dict[str, ScoredText]:
    """What is scored of the corpora ``of``, or of all: ``at_most`` windows of each, or as many as ``evaluation.windows`` says."""
    found, number = {}, at_most or settings.evaluation.windows["test"]
    for corpus in settings.corpora.sources if of is None else of:
        texts = shuffled_documents(settings, "test", [corpus])
        held_out, clusters = windows.of_documents(texts, tokenizer, settings.evaluation.window, number)
        held_out = windows.begun(held_out, tokenizer)
        scored = held_out[:, 1:]
        size = sum(len(part.encode()) for part in tokenizer.batch_decode(scored, skip_special_tokens=True))
        found[corpus] = ScoredText(held_out, clusters, size / scored.numel(), digest(held_out))
    return found


def beginnings(settings: Study, tokenizer: PreTrainedTokenizerBase) -> Tensor:
    """The first tokens of test documents, int64, items x (context + continuation), for written prompts; :class:`ParameterError` for too few."""
    corpus, number = settings.soft_prompt.corpus, settings.hard_prompt.items
    length, found = settings.hard_prompt.context + settings.hard_prompt.continuation, []
    for document in documents.documents(paths.corpora(settings), corpus, "test"):
        ids = tokenizer(str(document), add_special_tokens=False, verbose=False)["input_ids"]
        if len(ids) >= length:
            found.append(ids[:length])
        if len(found) == number:
            return windows.begun(torch.tensor(found), tokenizer)
    found_few = f"{corpus} has {len(found)} test documents of {length} tokens or more"
    raise ParameterError(f"{found_few}, hard_prompt.items asks for {number}; ask for fewer")


def check_windows(settings: Study, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise :class:`ParameterError` unless the held-out text of every corpus gives two windows or more, cut as they are scored."""
    for corpus in settings.corpora.sources:
        validation = split_windows(settings, tokenizer, corpus, "validation", at_most=2)
        test = scored_texts(settings, tokenizer, of=[corpus], at_most=2)[corpus].windows
        for split, found in (("validation", validation), ("test", test)):
            if len(found) < 2:
                few = f"{corpus} has fewer than two {split} windows of {settings.evaluation.window} tokens"
                raise ParameterError(f"{few}; take more text, or a shorter evaluation.window")


def digest(*tokens: Tensor) -> str:
    """A short digest of token ids: two scores may be compared when it is the same for both."""
    return digests.short(b"".join(row.long().cpu().numpy().tobytes() for row in tokens))
