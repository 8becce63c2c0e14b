"""What compression reached, matrix by matrix, and what it takes to store."""

from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from ctp_lib.compression import saved, storage
from ctp_lib.compression.base import method_for, registry
from ctp_lib.model import loading
from ctp_lib.results import cells
from ctp_lib.settings import digests, paths
from ctp_lib.settings.levels import Level
from ctp_lib.settings.study import Study


def obtain(settings: Study, model: str, level: Level) -> dict[str, Any]:
    """The cell of a compressed model: ``reached`` has bits per weight, bytes, and a row a matrix. It is made if it is not there."""
    path = paths.reached(settings, model, level)
    wanted = {"base": saved.make(settings, model, level), "code": digests.code([Path(__file__)])["modules"]}
    found = cells.known(path, wanted)
    if found is None:
        cell = {"model": model, "level": str(level)}
        found = cells.write(
            path, cell, identity=wanted, reached=describe(settings, model, level, saved.load(settings, model, level))
        )
    return found


def describe(settings: Study, model: str, level: Level, network: PreTrainedModel) -> dict[str, Any]:
    """What was reached in every matrix of ``network``, and the bits it takes by its method."""
    weights = {name: module.weight.detach() for name, module in loading.compressible(network).items()}
    count = sum(weight.numel() for weight in weights.values())
    rest = network.num_parameters() - count
    bits, stored = method_for(level, registry(settings)).stored(weights, rest, level, settings.model(model))
    return {
        "bits_per_weight": bits,
        "compressed_weights": count,
        "other_parameters": rest,
        "stored_bytes": stored // 8,
        "mask_digest": storage.mask_digest(weights) if level.sparsity else None,
        "layers": storage.inspect(weights),
    }
