"""What the notebooks share: where each thing lies, and the steps that more than one experiment takes."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ctp_lib import corpora, models, results
from ctp_lib.compression import storage
from ctp_lib.evaluation.perplexity import bits_per_byte, perplexity
from ctp_lib.study import Level, ModelSpec, ParameterError, Study, TrainingSpec

MANIFEST = "manifest.json"

# -------------------------------------------------------------------------------------------------- places


def corpora_folder(settings: Study) -> Path:
    """Where the documents of all corpora lie."""
    return settings.root / "data" / "corpora"


def compressed_folder(settings: Study, model: str, level: Level) -> Path:
    """A compressed copy of a model, a plain Hugging Face folder with a manifest."""
    return settings.root / "models" / "compressed" / file_name(model) / str(level)


def prompt_folder(settings: Study, model: str, level: Level) -> Path:
    """The soft prompt learned on a model at a level, a PEFT adapter."""
    return settings.root / "models" / "prompts" / file_name(model) / str(level)


def checkpoint_path(settings: Study, experiment: str, model: str, level: Level) -> Path:
    """The state of an unfinished training; gone when it is finished."""
    return settings.root / "models" / "checkpoints" / f"{experiment}-{file_name(model)}-{level}.safetensors"


def cell_path(settings: Study, experiment: str, model: str, level: Level) -> Path:
    """The JSON of one cell."""
    return settings.root / "results" / experiment / file_name(model) / f"{level}.json"


def file_name(model: str) -> str:
    """A model's name, folder or hub id as one path component."""
    return model.strip("/").replace("/", "--")


# -------------------------------------------------------------------------------------------------- tokens


def shuffled_documents(settings: Study, part: str) -> list[corpora.Document]:
    """One split of all corpora together, in an order drawn with the study's seed."""
    texts = [text for corpus in settings.corpora.sources for text in corpora.documents(corpora_folder(settings), corpus, part)]
    random.Random(settings.seed).shuffle(texts)
    return texts


def calibration_windows(settings: Study, tokenizer: PreTrainedTokenizerBase) -> Tensor:
    """The calibration tokens of the compression: random windows of the training split, int64, windows x window."""
    spec = settings.compression
    texts = corpora.documents(corpora_folder(settings), spec.corpus, "train")
    row = corpora.tokens(texts, tokenizer, at_least=20 * spec.windows * spec.window)
    return corpora.random_windows(row, spec.window, spec.windows, settings.seed)


@dataclass(frozen=True)
class TrainingText:
    """What a training reads: the batch of each step (int64, windows x window), the validation windows, and a digest of it all."""

    batch: Callable[[int], Tensor]
    validation: Tensor
    digest: str


def training_text(settings: Study, tokenizer: PreTrainedTokenizerBase, corpus: str, spec: TrainingSpec) -> TrainingText:
    """The text of one corpus for a training, in windows as long as the evaluation's."""
    window = settings.evaluation.window
    texts = corpora.documents(corpora_folder(settings), corpus, "train")
    row = corpora.tokens(texts, tokenizer, at_least=(spec.steps * spec.batch_windows + 1) * window)
    validation = split_windows(settings, tokenizer, corpus, "validation")
    batch = corpora.shuffled_batches(row, window, spec.batch_windows, settings.seed)
    return TrainingText(batch, validation, digest(row, validation))


def split_windows(settings: Study, tokenizer: PreTrainedTokenizerBase, corpus: str, part: str, at_most: int | None = None) -> Tensor:
    """The windows of a held-out split that are scored: int64, number x window."""
    window, number = settings.evaluation.window, at_most or settings.evaluation.windows[part]
    texts = corpora.documents(corpora_folder(settings), corpus, part)
    return corpora.windows(corpora.tokens(texts, tokenizer, at_least=number * window), window, number)


def digest(*tokens: Tensor) -> str:
    """A short digest of token ids: two scores may be compared when it is the same for both."""
    whole = hashlib.sha256()
    for row in tokens:
        whole.update(row.long().cpu().numpy().tobytes())
    return whole.hexdigest()[:16]


# -------------------------------------------------------------------------------------------- measurements


def validation_nll(model: PreTrainedModel, windows: Tensor, prompt: Tensor | None) -> float:
    """Mean NLL in nats a token, for choosing a step."""
    return perplexity(model, windows, prompt).nll


def perplexities(
    settings: Study,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    method: str,
    level: Level,
    prompt: Tensor | None = None,
    trained_on: str = "",
    at_most: int | None = None,
) -> list[dict[str, Any]]:
    """Score the test split of every corpus; one row a corpus, by the names of ``results/perplexity.csv``.

    ``at_most`` windows of each, or as many as ``evaluation.windows`` says. ``text_digest`` tells which tokens were scored.
    """
    rows = []
    for corpus in settings.corpora.sources:
        windows = split_windows(settings, tokenizer, corpus, "test", at_most)
        result = perplexity(model, windows, prompt)
        text = tokenizer.batch_decode(windows[:, 1:], skip_special_tokens=True)
        size = sum(len(part.encode()) for part in text)
        rows.append(
            {
                "method": method,
                "trained_on": trained_on,
                "trained_at_level": str(level) if trained_on else "",
                "evaluated_on": corpus,
                "split": "test",
                **result.record(),
                "bits_per_byte": bits_per_byte(result, size / result.tokens_scored),
                "text_digest": digest(windows),
                "trainable_parameters": 0 if prompt is None else prompt.numel(),
            }
        )
    return rows


def write(
    settings: Study, experiment: str, model: str, level: Level, *, rows: list[dict[str, Any]], costs: list[results.Cost], **more: Any
) -> None:
    """Write the JSON of one cell. Its method is that of its rows, which are at least one."""
    cell = {name: rows[0][name] for name in ("method", "trained_on")}
    cell = {"model": model, "level": str(level), **cell, "seed": settings.seed}
    bits = manifest(settings, model, level)["bits_per_weight"]
    path = cell_path(settings, experiment, model, level)
    results.write_cell(path, cell, perplexity=rows, cost=[{**cost.record(), "bits_per_weight": bits} for cost in costs], **more)


# -------------------------------------------------------------------------------------- compressed models


def save_compressed(
    settings: Study, model: str, level: Level, network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> dict[str, Any]:
    """Save a compressed model as a dense 16-bit Hugging Face folder with a manifest, and return the manifest.

    An uncompressed model is not copied; its folder holds the manifest alone. The folder appears when it is complete.
    """
    folder = compressed_folder(settings, model, level)
    incoming = folder.with_name(folder.name + ".incoming")
    shutil.rmtree(incoming, ignore_errors=True)
    incoming.mkdir(parents=True)
    if level.family != "full":
        network.half().save_pretrained(incoming)
        tokenizer.save_pretrained(incoming)
    reached = _manifest(settings, settings.model(model), level, network)
    (incoming / MANIFEST).write_text(json.dumps(reached, indent=1) + "\n", encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(incoming, folder)
    return reached


def manifest(settings: Study, model: str, level: Level) -> dict[str, Any]:
    """What :func:`save_compressed` recorded. Raises :class:`ParameterError` when the model was not compressed yet."""
    path = compressed_folder(settings, model, level) / MANIFEST
    if not path.exists():
        raise ParameterError(f"{model} at {level} is not compressed yet; run notebooks/02_compression with model {model!r}, level '{level}'")
    return json.loads(path.read_text(encoding="utf-8"))


def load_compressed(settings: Study, model: str, level: Level) -> PreTrainedModel:
    """The model at a level, from its folder. Raises :class:`ParameterError` when it was not made yet."""
    manifest(settings, model, level)
    folder = compressed_folder(settings, model, level)
    return models.load_model(settings.model(model), None if level.family == "full" else folder)


def _manifest(settings: Study, spec: ModelSpec, level: Level, network: PreTrainedModel) -> dict[str, Any]:
    weights = {name: module.weight.detach() for name, module in models.compressible(network).items()}
    bits = storage.bits_per_weight(weights, level)
    count = sum(weight.numel() for weight in weights.values())
    rest = models.parameter_count(network) - count
    calibration = {**asdict(settings.compression), "seed": settings.seed} if level.family != "full" else None
    if level.sparsity and calibration:
        calibration.pop("backend")  # a choice for the quantised levels only
    return {
        "base": asdict(spec),
        "level": str(level),
        "family": level.family,
        "calibration": calibration,
        "bits_per_weight": bits,
        "compressed_weights": count,
        "other_parameters": rest,
        "stored_bytes": round(bits * count + storage.FLOAT_BITS * rest) // 8,
        "mask_digest": storage.mask_digest(weights) if level.sparsity else None,
        "layers": [asdict(report) for report in storage.inspect(weights)],
    }
