"""A level -> llmcompressor modifiers with the paper's settings -> a compressed model.

Per-channel asymmetric GPTQ with activation order for bits, SparseGPT with one sparsity for every layer for pruning, both in
one pass for joint levels; true-sequential: a matrix sees the outputs of the matrices that were compressed before it.
"""

from __future__ import annotations

import contextlib
import functools
import io
import sys
import warnings
from collections.abc import Iterator

import torch
from compressed_tensors.offload import remove_dispatch
from llmcompressor import oneshot
from llmcompressor.modifiers import Modifier
from llmcompressor.modifiers.gptq import GPTQModifier
from llmcompressor.modifiers.pruning import SparseGPTModifier
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.hooks import RemovableHandle
from tqdm import tqdm
from transformers import PreTrainedModel

from ctp_lib import models
from ctp_lib.compression.autogptq import AutoGPTQModifier
from ctp_lib.compression.joint import JointModifier, asymmetric_grid
from ctp_lib.compression.tracing import traceable_masks
from ctp_lib.study import CompressionSpec, Level


def modifier(level: Level, spec: CompressionSpec, targets: list[str]) -> Modifier:
    """The one modifier that does ``level`` to the linear layers named in ``targets``."""
    solver = {"dampening_frac": spec.dampening, "block_size": spec.block_size}
    mask = f"{level.pattern[1] - level.pattern[0]}:{level.pattern[1]}" if level.pattern else "0:0"
    if level.family == "joint":
        return JointModifier(targets=targets, sparsity=level.sparsity, mask_structure=mask, bits=level.bits, **solver)
    if level.family == "pruned":
        return SparseGPTModifier(targets=targets, sparsity=level.sparsity, mask_structure=mask, **solver)
    if spec.backend == "auto-gptq":
        return AutoGPTQModifier(targets=targets, bits=level.bits, **solver)
    scheme = {"targets": targets, "weights": asymmetric_grid(level.bits).model_dump()}
    return GPTQModifier(config_groups={"all": scheme}, actorder="static", **solver)


def compress(model: PreTrainedModel, level: Level, windows: Tensor, spec: CompressionSpec) -> PreTrainedModel:
    """Compress every linear layer of ``model`` but its output head, in place; weights stay dense, in the model's dtype.

    ``windows`` are the calibration tokens, int64, number x window. ``full`` leaves the model as it is. Where there is a GPU, a layer is
    brought there when its turn comes; a model that lies in main memory needs no more of the GPU than that.
    """
    if level.family == "full":
        return model
    batches = [{"input_ids": batch, "attention_mask": torch.ones_like(batch)} for batch in windows.split(spec.windows_at_once)]
    with _one_bar(model, f"compress to {level}"), traceable_masks(model):
        oneshot(
            model=model,
            processor=model.config,  # asked for, never used: the windows are token ids already
            dataset=DataLoader(batches, batch_size=None),
            recipe=modifier(level, spec, list(models.compressible(model))),
            num_calibration_samples=len(batches),
            shuffle_calibration_samples=False,
            pipeline="sequential",
            sequential_targets=["Linear"],
        )
    return plain(model)


@contextlib.contextmanager
def _one_bar(model: PreTrainedModel, label: str) -> Iterator[None]:
    """One bar that counts matrices, in place of the two that llmcompressor prints for each."""
    layers = models.compressible(model).values()
    with tqdm(total=len(layers), desc=label, unit="matrix", file=sys.stderr, mininterval=1.0) as bar:

        def reached(*_: object, handle: list[RemovableHandle]) -> None:
            bar.update()
            handle.pop().remove()

        for layer in layers:
            handle: list[RemovableHandle] = []
            handle.append(layer.register_forward_hook(functools.partial(reached, handle=handle)))
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield


def plain(model: PreTrainedModel) -> PreTrainedModel:
    """Give the model back as transformers made it: no offloading, no quantisers; its weights already lie on the grid."""
    remove_dispatch(model)
    model.__dict__.pop("save_pretrained", None)
    for module in models.compressible(model).values():
        for name in [name for name, _ in module.named_parameters(recurse=False) if name not in ("weight", "bias")]:
            delattr(module, name)
        for name in ("quantization_scheme", "quantization_status", "quantization_enabled", "forward"):
            module.__dict__.pop(name, None)
    model.config.__dict__.pop("quantization_config", None)
    return model.requires_grad_(False)
