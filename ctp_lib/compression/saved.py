"""Compressed models on disk: plain dense Hugging Face folders, each with a manifest of what it was made by."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from ctp_lib.compression.base import method_for, registry
from ctp_lib.model import gguf, hub, loading
from ctp_lib.results import cells
from ctp_lib.results.provenance import Cost, measured
from ctp_lib.settings import digests, paths
from ctp_lib.settings.levels import Level
from ctp_lib.settings.models import ModelSpec
from ctp_lib.settings.spec import require
from ctp_lib.settings.study import Study
from ctp_lib.text import selection

MANIFEST = "manifest.json"


def identity(settings: Study, model: str, level: Level) -> dict[str, Any]:
    """What a compressed model depends on: the model, the level and its method, the calibration, code and packages. Not its bytes, which
    differ in their last bits between processors.
    """
    spec, method = settings.model(model), method_for(level, registry(settings))
    found = {"base": source(spec), "level": str(level), "method": level.method}
    if level.family == "full":
        return found
    if method.needs_calibration:
        found["calibration"] = calibration(settings)
    if brought := method.brings(spec, level):
        found["brought"] = source(brought)
    return {**found, "code": digests.code([registry(settings).file(level.method), Path(__file__)])}


def calibration(settings: Study) -> dict[str, Any]:
    """What a compression is calibrated on, and how."""
    spec = settings.compression
    text = digests.content(paths.corpora(settings) / spec.corpus / "train.jsonl.gz")
    return {**asdict(spec), "seed": settings.seed, "text": text}


def source(spec: ModelSpec) -> dict[str, Any]:
    """A model as it was brought: where from, and what is in its files."""
    folder = loading.folder(spec)
    commit = hub.commit(folder)
    named = {"source": spec.source, "revision": spec.revision, "dtype": spec.dtype}
    content = None if commit else digests.content(folder / gguf.MANIFEST if spec.gguf else folder)
    return {**named, "commit": commit, "content": content}


def make(settings: Study, model: str, level: Level) -> dict[str, Any]:
    """The manifest of a compressed model; the model is made first if it is not there, or was made by something else.

    It is saved in 16 bits. An uncompressed model is not copied; its folder holds the manifest alone. The folder appears when it is
    complete.
    """
    folder, wanted = paths.compressed(settings, model, level), identity(settings, model, level)
    if found := cells.known(folder / MANIFEST, wanted):
        return found["identity"]
    with paths.in_turn(folder):
        found = cells.known(folder / MANIFEST, wanted) or _compress(settings, model, level, folder, wanted)
    return found["identity"]


def _compress(settings: Study, model: str, level: Level, folder: Path, wanted: dict[str, Any]) -> dict[str, Any]:
    method, spec = method_for(level, registry(settings)), settings.model(model)
    costs: list[Cost] = []
    with paths.replacing(folder) as incoming:
        incoming.mkdir()
        if level.family != "full":
            tokenizer, network = loading.load_tokenizer(spec), loading.load_model(spec)
            _check_groups(network, level)
            windows = selection.calibration_windows(settings, tokenizer)
            with measured("compress", tokens=windows.numel()) as cost:
                network = method.compress(network, level, windows, settings.compression, spec)
            network.to(torch.bfloat16 if network.dtype == torch.bfloat16 else torch.float16)
            wrong = [
                name for name, weight in network.state_dict().items() if weight.is_floating_point() and not weight.isfinite().all()
            ]
            require(not wrong, f"level {level}: weights that are no numbers in 16 bits", wrong[:3], "none; compute in bfloat16")
            network.save_pretrained(incoming)
            tokenizer.save_pretrained(incoming)
            costs.append(cost)
        cell = {"model": model, "level": str(level), "method": "none"}
        written = cells.write_manifest(incoming, MANIFEST, cell, identity=wanted)
        cells.write_cost(settings, folder, cell, costs)
    return written


def load(settings: Study, model: str, level: Level, *, on: torch.device | str = "cpu") -> PreTrainedModel:
    """The model at a level, which it has as ``compressed_to``, from its folder, made first if need be."""
    make(settings, model, level)
    folder = None if level.family == "full" else paths.compressed(settings, model, level)
    if folder:
        cells.check_files(folder / MANIFEST)
    network = loading.load_model(settings.model(model), folder, on=on)
    network.compressed_to = level
    return network


def _check_groups(network: PreTrainedModel, level: Level) -> None:
    for name, module in loading.compressible(network).items() if level.group else ():
        columns = module.weight.shape[1]
        require(columns % level.group == 0, f"level {level}: the columns of {name}", columns, f"a multiple of {level.group}")
