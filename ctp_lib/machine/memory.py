"""Bytes that a piece of work takes at its peak, counted tensor by tensor on shapes alone: nothing is computed or allocated."""

import copy
import weakref
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoModelForCausalLM, PreTrainedModel


class PeakBytes(TorchDispatchMode):
    """Counts the bytes of storages while anything holds them, those of ``own`` tensors (weights) aside; ``peak`` is the most at one time."""

    def __init__(self, own: Iterable[Tensor] = ()):
        super().__init__()
        self.held = {tensor.untyped_storage()._cdata: 0 for tensor in own}
        self.now = self.peak = 0

    def __torch_dispatch__(self, function: Callable, types: Any, args: tuple = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        """Run the operation and count what is new in its result."""
        made = function(*args, **(kwargs or {}))
        if not any(returned.alias_info for returned in function._schema.returns):  # a view is of something that was counted
            for tensor in tree_leaves(made):
                if isinstance(tensor, Tensor):
                    self._count(tensor.untyped_storage())
        return made

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage._cdata not in self.held:
            self.held[storage._cdata] = storage.nbytes()
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._free, storage._cdata)

    def _free(self, place: int) -> None:
        self.now -= self.held.pop(place)


shapes_alone = partial(FakeTensorMode, allow_non_fake_inputs=True)
"""Tensors made in a block of it have a shape and a dtype, and no data."""


def drop_data(module: nn.Module) -> None:
    """Put a parameter without data in the place of every one that has some."""
    with shapes_alone():
        for part in module.modules():
            for name, weight in part.named_parameters(recurse=False):
                if not isinstance(weight, FakeTensor):
                    part.register_parameter(name, nn.Parameter(torch.empty_like(weight), requires_grad=weight.requires_grad))


def peak_bytes(work: Callable[[], object], own: Iterable[Tensor]) -> int:
    """Bytes beside those of ``own`` that ``work``, on shapes alone, holds at its peak."""
    with shapes_alone(), PeakBytes(own) as counted:
        work()
    return counted.peak


def whole(network: PreTrainedModel, count: Callable[[PreTrainedModel], int]) -> int:
    """``count``, bytes, of the whole network, from two shallow ones: layers of one kind add as much each."""
    config = network.config.get_text_config()
    kinds, layers = getattr(config, "layer_types", None) or [""] * config.num_hidden_layers, config.num_hidden_layers
    period = next(n for n in range(1, layers + 1) if kinds[n:] == kinds[: layers - n])
    if layers <= 3 * period:
        return count(network)
    few, more = (count(_of_depth(network, depth)) for depth in (2 * period, 3 * period))
    return few + (more - few) * (layers - 2 * period) // period


def _of_depth(network: PreTrainedModel, layers: int) -> PreTrainedModel:
    """A network like this with its first ``layers`` alone, on shapes."""
    config = copy.deepcopy(network.config)
    inner = config.get_text_config()
    inner.num_hidden_layers = layers
    if getattr(inner, "layer_types", None):
        inner.layer_types = inner.layer_types[:layers]
    with shapes_alone():
        return AutoModelForCausalLM.from_config(config, dtype=network.dtype).eval().requires_grad_(False)
