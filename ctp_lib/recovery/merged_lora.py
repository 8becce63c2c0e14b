"""LoRA that is merged into a pruned model and leaves its zeros zero: not a byte more (MaskLoRA, PERP, Zimmer et al. 2023, section 3.2)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn.utils import parametrize
from transformers import PreTrainedModel

from ctp_lib.evaluation.subject import Subject
from ctp_lib.model import loading
from ctp_lib.recovery import kept
from ctp_lib.recovery.base import Method
from ctp_lib.recovery.learning import asked, learn
from ctp_lib.settings.learning import Loss, TrainingSpec
from ctp_lib.settings.spec import SPEC, Count
from ctp_lib.settings.study import Study


@dataclass(**SPEC)
class MergedLoraSpec:
    """The rank in every matrix, and how it is learned."""

    rank: Count
    training: TrainingSpec
    loss: Loss = "next-token"


class Masked(nn.Module):
    """W + M (B A), where M is one wherever W is not zero."""

    def __init__(self, weight: Tensor, wide: Tensor, thin: Tensor):
        super().__init__()
        self.register_buffer("mask", weight != 0, persistent=False)
        self.wide, self.thin = nn.Parameter(wide.to(weight.device)), nn.Parameter(thin.to(weight.device))

    def forward(self, weight: Tensor) -> Tensor:
        """The weight that is computed with."""
        return weight + ((self.wide @ self.thin) * self.mask).to(weight.dtype)


class Merged(kept.Kept):
    """``<name>.wide`` and ``<name>.thin`` of every matrix, fp32. ``bytes``: none in a pruned matrix; a quantised one leaves its grid, so it is
    stored in 16 bits.
    """

    def __init__(self, tensors: Mapping[str, Tensor], network: PreTrainedModel, run: Any = None):
        super().__init__(tensors, run)
        matrices = [module.weight for module in loading.compressible(network).values()]
        self.bytes = sum(2 * weight.numel() for weight in matrices if (weight != 0).all())

    @contextmanager
    def on(self, network: PreTrainedModel) -> Iterator[Subject]:
        """The network with these in its weights; after the block its own again."""
        before = {}
        try:
            for name, module in loading.compressible(network).items():
                before[name] = module.weight.detach().clone()
                merged = Masked(module.weight, self.tensors[f"{name}.wide"], self.tensors[f"{name}.thin"])
                with torch.no_grad():
                    module.weight.copy_(merged(module.weight))
            yield Subject(network)
        finally:
            kept.put(network, {f"{name}.weight": weight for name, weight in before.items()})


class MergedLora(Method):
    """Every matrix that was compressed, by the soft prompt's loss. B starts at zero, A is drawn as PEFT draws it."""

    name, label, colour = "merged_lora", "compressed + merged LoRA", "#1864ab"

    def settings(self, study: Study, own: Mapping[str, Any]) -> MergedLoraSpec:
        """``rank``, 8 unless said; of ``training`` what differs from the soft prompt's, the learning rate 1e-3 unless said."""
        return asked(MergedLoraSpec, study, self.name, own, 1e-3, rank=8)

    def learn(self, network: PreTrainedModel, text, settings: MergedLoraSpec, teacher, seed, *, checkpoint, label, **_) -> Merged:
        """Learned beside the weights, through the mask."""
        matrices, generator = loading.compressible(network), torch.Generator().manual_seed(seed)
        try:
            for module in matrices.values():
                thin = torch.empty(settings.rank, module.in_features)
                nn.init.kaiming_uniform_(thin, a=5**0.5, generator=generator)
                parts = Masked(module.weight, torch.zeros(module.out_features, settings.rank), thin)
                parametrize.register_parametrization(module, "weight", parts)
            run = learn(network, network, text, settings, teacher, seed, checkpoint=checkpoint, label=label)
            learned = {}
            for name, module in matrices.items():
                learned |= {f"{name}.{part}": weight for part, weight in module.parametrizations.weight[0].named_parameters()}
        finally:
            for module in matrices.values():
                if parametrize.is_parametrized(module):
                    parametrize.remove_parametrizations(module, "weight", leave_parametrized=False)
        return Merged(learned, network, run)

    def load(self, folder: Path, network: PreTrainedModel) -> Merged:
        """Read it back."""
        return Merged(kept.read(folder), network)


METHOD = MergedLora()
