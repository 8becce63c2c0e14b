"""llmcompressor's pipeline, one input after the other: with one bar, on models as transformers makes them.

Matrices that read the same tensor make one step, since none of them changes what another reads. The head is left out: it is not compressed,
and nothing that is compressed reads what it gives.
"""

import contextlib
import functools
import inspect
import io
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from compressed_tensors.offload import remove_dispatch
from llmcompressor import oneshot
from llmcompressor.modifiers import Modifier
from loguru import logger
from torch import Tensor
from torch.fx import Proxy
from torch.utils.data import DataLoader
from torch.utils.hooks import RemovableHandle
from tqdm import tqdm
from transformers import PreTrainedModel

from ctp_lib.model import loading

NOT_INVERTED = "a Hessian cannot be inverted; raise compression.dampening or take more calibration windows"
BUILDERS = ("create_causal_mask", "create_sliding_window_causal_mask")


def run(network: PreTrainedModel, modifier: Modifier, batches: Sequence[Tensor], label: str) -> PreTrainedModel:
    """Let ``modifier`` compress ``network``, in place, by what it sees of ``batches`` (int64, windows x length). Its targets are named as in
    the network's ``base_model``.
    """
    body = network.base_model
    inputs = [{"input_ids": batch, "attention_mask": torch.ones_like(batch)} for batch in batches]
    with _one_bar(body, label), traceable_masks(body), _no_other_method():
        oneshot(
            model=body,
            processor=body.config,  # asked for, never used: the windows are token ids already
            dataset=DataLoader(inputs, batch_size=None),
            recipe=modifier,
            num_calibration_samples=len(inputs),
            shuffle_calibration_samples=False,
            pipeline="sequential",
            sequential_targets=steps(body, batches[0][:1, :2]),
        )
    plain(body)
    return network


@torch.inference_mode()
def steps(body: PreTrainedModel, ids: Tensor) -> list[str]:
    """The first of the matrices that read each input, in the order in which ``body`` runs them on ``ids``."""
    found, read = [], [None]

    def runs(_: object, inputs: tuple[Tensor, ...], *, name: str) -> None:
        if inputs[0] is not read[0]:
            found.append(name)
        read[0] = inputs[0]

    with contextlib.ExitStack() as hooks:
        for name, matrix in loading.compressible(body).items():
            hooks.enter_context(matrix.register_forward_pre_hook(functools.partial(runs, name=name)))
        body(ids.to(body.device))
    return found


@contextlib.contextmanager
def _no_other_method() -> Iterator[None]:
    """Raise :class:`FloatingPointError` where a Hessian cannot be inverted: llmcompressor warns, and goes on with rounding or magnitude."""

    def stop(message: object) -> None:
        raise FloatingPointError(NOT_INVERTED)

    about = re.compile("(?i)hessian inver|invert hessian")
    sink = logger.add(stop, level="WARNING", filter=lambda record: about.search(record["message"]) is not None, catch=False)
    try:
        yield
    except torch.linalg.LinAlgError:
        raise FloatingPointError(NOT_INVERTED) from None
    finally:
        logger.remove(sink)


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


@contextlib.contextmanager
def traceable_masks(model: PreTrainedModel) -> Iterator[None]:
    """Let the mask builders of ``model`` be one step of a trace, where they are called through ``mask_function``.

    llmcompressor cuts a model into steps by tracing it. What builds a causal mask branches on shapes, so it has to be one step.
    llmcompressor knows the builders by name; Mistral and its kin call theirs through a local variable, where it does not find them.
    """
    forward = inspect.unwrap(type(model.base_model).forward)
    module = sys.modules[type(model).__module__]
    if "mask_function" not in forward.__code__.co_varnames:
        yield
        return
    builders = {name: getattr(module, name) for name in BUILDERS if hasattr(module, name)}
    try:
        for name, build in builders.items():
            setattr(module, name, _one_step(build))
        yield
    finally:
        for name, build in builders.items():
            setattr(module, name, build)


def _one_step(build: Callable[..., Any]) -> Callable[..., Any]:
    """``build``, called as it is with tensors, and noted as one call when a tracer comes by. The configuration is not traced."""

    def build_mask(*, config: Any, **inputs: Any) -> Any:
        def with_config(**values: Any) -> Any:
            return build(config=config, **values)

        traced = [value for value in inputs.values() if isinstance(value, Proxy)]
        return traced[0].tracer.create_proxy("call_function", with_config, (), inputs) if traced else with_config(**inputs)

    return build_mask
