"""Methods of a reader's own, in one file that no file of the library knows of: a way to compress, and three ways to repair."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from ctp_lib.compression import base as compression
from ctp_lib.evaluation.subject import Subject
from ctp_lib.model import loading
from ctp_lib.recovery import base as recovery
from ctp_lib.settings.levels import Level


class EverySecond(compression.Method):
    """Every second column of every matrix goes."""

    name, label, families = "every-second", "every second column", ("pruned",)

    def can(self, level: Level) -> bool:
        return super().can(level) and level.sparsity == 0.5

    def compress(self, network: PreTrainedModel, level: Level, windows: Tensor, spec: Any, model: Any) -> PreTrainedModel:
        for module in loading.compressible(network).values():
            module.weight.data[:, ::2] = 0
        return network


class Kept(recovery.Learned):
    """Tensors by name, in a file."""

    def __init__(self, tensors: dict[str, Tensor]):
        self.tensors = tensors
        self.parameters = sum(tensor.numel() for tensor in tensors.values())
        self.bytes = sum(tensor.nbytes for tensor in tensors.values())

    def save(self, folder: Path, base: Any, network: PreTrainedModel) -> None:
        save_file(self.tensors, folder / "tensors.safetensors")


# ------------------------------------------------- needs the uncompressed weights and the inputs of the calibration


class Shifted(Kept):
    @contextmanager
    def on(self, network: PreTrainedModel) -> Iterator[Subject]:
        """Every matrix gives what it gives, and what it lacks of the uncompressed one on a mean input."""

        def shift(name: str):
            return lambda module, inputs, output: output + self.tensors[name]

        modules = loading.compressible(network)
        hooks = [modules[name].register_forward_hook(shift(name)) for name in self.tensors]
        try:
            yield Subject(network)
        finally:
            for hook in hooks:
                hook.remove()


@dataclass(frozen=True)
class Strength:
    strength: float = 1.0


class MeanShift(recovery.Method):
    name, label, colour = "mean_shift", "compressed + mean shift", "#2b8a3e"
    needs_dense = needs_calibration = True

    def settings(self, study: Any, own: dict[str, Any]) -> Strength:
        return Strength(**own)

    def learn(self, network, text, settings, teacher, seed, **_: Any) -> Shifted:
        means: dict[str, Tensor] = {}
        modules = loading.compressible(network)

        def see(name: str):
            def hook(module, inputs) -> None:
                means[name] = inputs[0].flatten(0, -2).mean(0)

            return hook

        hooks = [module.register_forward_pre_hook(see(name)) for name, module in modules.items()]
        with torch.no_grad():
            network(text.calibration())
        for hook in hooks:
            hook.remove()
        dense = loading.compressible(teacher.network if teacher else network)
        lacks = {name: dense[name].weight - module.weight for name, module in modules.items()}
        return Shifted({name: settings.strength * lacks[name] @ means[name] for name in modules})

    def load(self, folder: Path, network: PreTrainedModel) -> Shifted:
        return Shifted(load_file(folder / "tensors.safetensors"))


# ------------------------------------------------------------------ chooses among what others learned, input by input


class ByFirstToken(recovery.Learned):
    def __init__(self, others: Sequence[recovery.Learned]):
        self.others = list(others)
        self.parameters, self.bytes = (sum(getattr(other, what) for other in others) for what in ("parameters", "bytes"))

    @contextmanager
    def on(self, network: PreTrainedModel) -> Iterator[Subject]:
        yield Choosing(network, None, self.others)

    def save(self, folder: Path, base: Any, network: PreTrainedModel) -> None:
        for number, other in enumerate(self.others):
            (folder / str(number)).mkdir()
            other.save(folder / str(number), base, network)


@dataclass(frozen=True)
class Choosing(Subject):
    others: Sequence[recovery.Learned] = ()

    def routed(self, inputs: Sequence[Tensor]) -> Iterator[tuple[list[int], Subject]]:
        chosen = [int(row[0]) % len(self.others) for row in inputs]
        for number, other in enumerate(self.others):
            if rows := [row for row, choice in enumerate(chosen) if choice == number]:
                with other.on(self.network) as subject:
                    yield rows, subject


class Chooser(recovery.Method):
    name, label, colour = "chooser", "compressed + one of two", "#5f3dc4"
    others = ("soft_prompt", "mean_shift")

    def learn(self, network, text, settings, teacher, seed, *, others, **_: Any) -> ByFirstToken:
        return ByFirstToken([others(name) for name in self.others])

    def load(self, folder: Path, network: PreTrainedModel) -> ByFirstToken:
        return ByFirstToken(
            [recovery.registry().get("soft_prompt").load(folder / "0", network), MeanShift().load(folder / "1", network)]
        )


# ------------------------------------------------------------------------- changes weights, and takes the change back


class Scaled(Kept):
    @contextmanager
    def on(self, network: PreTrainedModel) -> Iterator[Subject]:
        norms = {name: weight for name, weight in network.named_parameters() if name in self.tensors}
        before = {name: weight.detach().clone() for name, weight in norms.items()}
        for name, weight in norms.items():
            weight.data.mul_(self.tensors[name])
        try:
            yield Subject(network)
        finally:
            for name, weight in norms.items():
                weight.data.copy_(before[name])


class NormScale(recovery.Method):
    name, label, colour = "norm_scale", "compressed + scaled norms", "#e8590c"

    def learn(self, network, text, settings, teacher, seed, **_: Any) -> Scaled:
        return Scaled({name: torch.full_like(weight, 0.9) for name, weight in network.named_parameters() if "norm" in name})

    def load(self, folder: Path, network: PreTrainedModel) -> Scaled:
        return Scaled(load_file(folder / "tensors.safetensors"))


METHODS = [EverySecond(), MeanShift(), Chooser(), NormScale()]
RECOVERIES = json.dumps([method.name for method in METHODS[1:]])
