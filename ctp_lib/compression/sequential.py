"""llmcompressor's pipeline, one matrix after the other: with one bar, on models as transformers makes them."""

from __future__ import annotations

import contextlib
import functools
import io
import sys
import warnings
from collections.abc import Iterator, Sequence

import torch
from compressed_tensors.offload import remove_dispatch
from llmcompressor import oneshot
from llmcompressor.modifiers import Modifier
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.hooks import RemovableHandle
from tqdm import tqdm
from transformers import PreTrainedModel

from ctp_lib.compression.tracing import traceable_masks
from ctp_lib.model import loading


def run(network: PreTrainedModel, modifier: Modifier, batches: Sequence[Tensor], label: str) -> PreTrainedModel:
    """Let ``modifier`` compress ``network``, in place, by what it sees of ``batches`` (int64, windows x length)."""
    inputs = [{"input_ids": batch, "attention_mask": torch.ones_like(batch)} for batch in batches]
    with _one_bar(network, label), traceable_masks(network):
        oneshot(
            model=network,
            processor=network.config,  # asked for, never used: the windows are token ids already
            dataset=DataLoader(inputs, batch_size=None),
            recipe=modifier,
            num_calibration_samples=len(inputs),
            shuffle_calibration_samples=False,
            pipeline="sequential",
            sequential_targets=["Linear"],
        )
    return plain(network)


@contextlib.contextmanager
def _one_bar(model: PreTrainedModel, label: str) -> Iterator[None]:
    """One bar that counts matrices, in place of the two that llmcompressor prints for each; what else it says is shown if it fails."""
    layers, said = loading.compressible(model).values(), io.StringIO()
    with tqdm(total=len(layers), desc=label, unit="matrix", file=sys.stderr, mininterval=1.0) as bar:

        def reached(*_: object, handle: list[RemovableHandle]) -> None:
            bar.update()
            handle.pop().remove()

        for layer in layers:
            handle: list[RemovableHandle] = []
            handle.append(layer.register_forward_hook(functools.partial(reached, handle=handle)))
        try:
            with warnings.catch_warnings(), contextlib.redirect_stderr(said):
                warnings.simplefilter("ignore")
                yield
        except BaseException:
            sys.stderr.write(said.getvalue())
            raise


def plain(model: PreTrainedModel) -> PreTrainedModel:
    """Give the model back as transformers made it: no offloading, no quantisers; its weights already lie on the grid."""
    remove_dispatch(model)
    model.__dict__.pop("save_pretrained", None)
    for module in loading.compressible(model).values():
        for name in [name for name, _ in module.named_parameters(recurse=False) if name not in ("weight", "bias")]:
            delattr(module, name)
        for name in ("quantization_scheme", "quantization_status", "quantization_enabled", "forward"):
            module.__dict__.pop(name, None)
    model.config.__dict__.pop("quantization_config", None)
    return model.requires_grad_(False)
