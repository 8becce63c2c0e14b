"""GPTQ of a whole model: llmcompressor, as the study runs it, as it runs by itself, with auto-gptq's solver, and gptqmodel where installed."""

from __future__ import annotations

import copy
import importlib.util
import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from llmcompressor import oneshot
from llmcompressor.modifiers.gptq import GPTQModifier
from torch.utils.data import DataLoader
from transformers import PreTrainedModel

from benchmarks import measure
from benchmarks.compression import BITS, BLOCK, DAMPENING
from benchmarks.measure import Benchmark
from benchmarks.shapes import SHAPES, Shape, forward_flops, matrix_weights
from benchmarks.zero_shot import tokenizer
from ctp_lib.compression.base import method_for
from ctp_lib.compression.grid import asymmetric
from ctp_lib.model import loading
from ctp_lib.settings.compression import CompressionSpec
from ctp_lib.settings.levels import Level

WINDOWS, AT_ONCE = 64, 16
"""Calibration windows, and how many go through the model together."""


def by_backend(backend: str) -> Callable[[PreTrainedModel, Shape], Callable[[], PreTrainedModel]]:
    """The study's own way with one of its two solvers."""

    def make(model: PreTrainedModel, shape: Shape) -> Callable[[], PreTrainedModel]:
        spec = CompressionSpec(
            corpus="drawn", windows=WINDOWS, window=shape.length, dampening=DAMPENING, block_size=BLOCK, windows_at_once=AT_ONCE,
        )  # fmt: skip
        level = Level(bits=BITS, by=None if backend == "llmcompressor" else backend)
        _saved(model)
        return lambda: method_for(level).compress(copy.deepcopy(model), level, shape.windows(WINDOWS), spec, None)

    return make


def by_layers(model: PreTrainedModel, shape: Shape) -> Callable[[], PreTrainedModel]:
    """llmcompressor as it is called in its own examples: all matrices of a layer in one step, so that none sees what became of the others."""
    windows = [{"input_ids": rows, "attention_mask": torch.ones_like(rows)} for rows in shape.windows(WINDOWS).split(AT_ONCE)]
    _saved(model)

    def quantise() -> PreTrainedModel:
        network = copy.deepcopy(model)
        scheme = {"targets": ["Linear"], "weights": asymmetric(BITS).model_dump()}
        asked = GPTQModifier(config_groups={"all": scheme}, ignore=["lm_head"], dampening_frac=DAMPENING, block_size=BLOCK)
        oneshot(
            model=network,
            processor=network.config,
            dataset=DataLoader(windows, batch_size=None),
            recipe=asked,
            num_calibration_samples=len(windows),
            shuffle_calibration_samples=False,
        )
        return network

    return quantise


def gptqmodel(model: PreTrainedModel, shape: Shape) -> Callable[[], PreTrainedModel]:
    """gptqmodel's own loop, set as the paper's GPTQ is. It does more than the other sides: it reads the model, and packs what comes of it."""
    os.environ.setdefault("GPTQMODEL_CPU_WORKERS", "2")  # on a machine of two cores it gives itself one, and asks for two
    from gptqmodel import GPTQModel, QuantizeConfig

    folder = _saved(model)
    windows = [{"input_ids": row.tolist(), "attention_mask": [1] * len(row)} for row in shape.windows(WINDOWS)]

    def quantise() -> PreTrainedModel:
        asked = QuantizeConfig(
            bits=BITS,
            group_size=-1,
            sym=False,
            desc_act=True,
            act_group_aware=False,
            damp_percent=DAMPENING,
            mse=0.0,
            device="cpu",
            offload_to_disk=False,
        )
        loaded = GPTQModel.load(folder, asked)
        loaded.quantize(windows, batch_size=AT_ONCE, calibration_sort=None)
        return loaded.model

    return quantise


def _saved(model: PreTrainedModel) -> str:
    """A folder of ``model`` with a tokenizer; both libraries look the configuration up where the model came from."""
    folder = Path(tempfile.mkdtemp())
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    model.config.name_or_path = str(folder)
    return str(folder)


def flops(model: PreTrainedModel, shape: Shape) -> float:
    """Of one pass over the calibration windows, of each matrix's Hessian (2 d^2 a token), its inverse and factors, and the errors."""
    layers, tokens = loading.compressible(model).values(), WINDOWS * shape.length
    solved = sum(
        2 * layer.in_features**2 * tokens + 4 / 3 * layer.in_features**3 + layer.in_features**2 * layer.out_features
        for layer in layers
    )
    inner, _ = matrix_weights(model)  # the head is left out
    _, attention = forward_flops(model, replace(shape, prompt=0), WINDOWS)
    return 2 * inner * tokens + attention + solved


SIDES = {
    "llmcompressor (ours)": by_backend("llmcompressor"),
    "auto-gptq's solver": by_backend("auto-gptq"),
    "llmcompressor, a layer at a time": by_layers,
}
if importlib.util.find_spec("gptqmodel"):
    SIDES["gptqmodel"] = gptqmodel

BENCHMARK = Benchmark(
    name="compression_model",
    title=f"GPTQ of a whole model at {BITS} bits",
    sides=SIDES,
    flops=flops,
    tokens=lambda shape: WINDOWS * shape.length,
    goals=dict.fromkeys(list(SIDES)[1:], 1 / 1.1),
    catalogue={name: SHAPES[name] for name in ("toy", "embedded", "smollm2")},
)

if __name__ == "__main__":
    measure.main(BENCHMARK)
