"""Models that choose between two masks (Mistral and its kin), for llmcompressor, which cuts a model into steps by tracing it.

What builds a causal mask branches on shapes, so a tracer has to take it as one step. llmcompressor knows the builders by name; these
models call theirs through a local variable, ``mask_function``, behind which it does not find them.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Callable, Iterator
from typing import Any

from torch.fx import Proxy
from transformers import PreTrainedModel

BUILDERS = ("create_causal_mask", "create_sliding_window_causal_mask")


@contextlib.contextmanager
def traceable_masks(model: PreTrainedModel) -> Iterator[None]:
    """Let the mask builders of ``model`` be one step of a trace, where they are called through ``mask_function``."""
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
