"""Compressed models on disk: plain dense Hugging Face folders, each with a manifest."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ctp_lib import hub, models, places
from ctp_lib.compression import storage
from ctp_lib.study import Level, ModelSpec, ParameterError, Study

MANIFEST = "manifest.json"


def save(settings: Study, model: str, level: Level, network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """Save a compressed model as a dense 16-bit Hugging Face folder with a manifest, and return the manifest.

    An uncompressed model is not copied; its folder holds the manifest alone. The folder appears when it is complete.
    """
    folder = places.compressed_folder(settings, model, level)
    with places.replacing(folder) as incoming:
        incoming.mkdir()
        if level.family != "full":
            network.to(torch.bfloat16 if network.dtype == torch.bfloat16 else torch.float16).save_pretrained(incoming)
            tokenizer.save_pretrained(incoming)
        reached = describe(settings, settings.model(model), level, network)
        (incoming / MANIFEST).write_text(json.dumps(reached, indent=1) + "\n", encoding="utf-8")
    return reached


def manifest(settings: Study, model: str, level: Level) -> dict[str, Any]:
    """What :func:`save` recorded. Raises :class:`ParameterError` when the model was not compressed yet."""
    path = places.compressed_folder(settings, model, level) / MANIFEST
    if not path.exists():
        raise ParameterError(
            f"{model} at {level} is not compressed yet; run notebooks/02_compression with model {model!r}, level '{level}'"
        )
    return json.loads(path.read_text(encoding="utf-8"))


def load(settings: Study, model: str, level: Level) -> PreTrainedModel:
    """The model at a level, from its folder. Raises :class:`ParameterError` when it was not made yet."""
    manifest(settings, model, level)
    folder = places.compressed_folder(settings, model, level)
    return models.load_model(settings.model(model), None if level.family == "full" else folder)


def describe(settings: Study, spec: ModelSpec, level: Level, network: PreTrainedModel) -> dict[str, Any]:
    """What was asked for and what was reached, layer by layer, and what it takes to store."""
    weights = {name: module.weight.detach() for name, module in models.compressible(network).items()}
    bits = storage.bits_per_weight(weights, level)
    count = sum(weight.numel() for weight in weights.values())
    rest = models.parameter_count(network) - count
    calibration = {**asdict(settings.compression), "seed": settings.seed} if level.family != "full" else None
    if level.sparsity and calibration:
        calibration.pop("backend")  # a choice for the quantised levels only
    return {
        "base": {**asdict(spec), "commit": hub.commit(models.folder(spec))},
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
