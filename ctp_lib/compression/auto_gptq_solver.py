"""auto-gptq's solver in llmcompressor's pipeline.

auto-gptq 0.7.1 is archived and its package no longer imports beside a current transformers. Its solver still runs: the class
``GPTQ`` needs nothing of the package around it but two modules. They are loaded past the package's ``__init__``, under empty parents that
are put into ``sys.modules``: there is no other way to import a module without its package. It has a wheel for Linux on x86-64 alone.
"""

import contextlib
import functools
import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from compressed_tensors.offload import update_offload_parameter
from llmcompressor.modifiers.pruning.sparsegpt.sgpt_base import SparsityModifierBase
from pydantic import PrivateAttr

from ctp_lib.settings.spec import ParameterError


@functools.cache
def _solver() -> types.ModuleType:
    """The module ``auto_gptq.quantization.gptq``, imported under parents that run no ``__init__``."""
    found = importlib.util.find_spec("auto_gptq")
    if found is None:
        raise ParameterError(
            "auto-gptq is not installed (it has a package for Linux on x86-64 alone); take the level without the name, as `4bit`"
        )
    for name in ("auto_gptq", "auto_gptq.quantization"):
        spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = [str(Path(found.origin).parent.joinpath(*name.split(".")[1:]))]
        sys.modules[name] = importlib.util.module_from_spec(spec)
    from auto_gptq.quantization import gptq

    return gptq


@contextlib.contextmanager
def _without_cuda_synchronisation() -> Iterator[None]:
    """The solver synchronises with a GPU whether there is one or not."""
    synchronise = torch.cuda.synchronize
    if not torch.cuda.is_available():
        torch.cuda.synchronize = lambda *_: None
    try:
        yield
    finally:
        torch.cuda.synchronize = synchronise


class AutoGPTQModifier(SparsityModifierBase):
    """auto-gptq's solver in llmcompressor's pipeline: per channel, asymmetric, activation order. ``bits`` is the grid's width."""

    bits: int
    sparsity: float = 0.0
    dampening_frac: float = 0.01
    block_size: int = 128

    _solvers: dict[Any, Any] = PrivateAttr(default_factory=dict)

    def calibrate_module(self, module: torch.nn.Module, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        """Add one batch of the module's inputs to its Hessian."""
        if module not in self._solvers:
            solver = _solver().GPTQ(module)
            solver.quantizer.configure(self.bits, perchannel=True, sym=False, mse=False)
            self._solvers[module] = solver
        self._solvers[module].add_batch(args[0], output)

    def compress_modules(self) -> None:
        """Quantise the modules that were calibrated; llmcompressor calls it after each of its sequential steps."""
        with torch.no_grad(), _without_cuda_synchronisation():
            for solver in self._solvers.values():
                solver.fasterquant(blocksize=self.block_size, percdamp=self.dampening_frac, actorder=True)
                update_offload_parameter(solver.layer, "weight", solver.layer.weight.data)
        self._solvers.clear()
