"""LoRA that is merged into the weights. What was pruned stays zero: not a byte more (MaskLoRA, PERP, Zimmer et al. 2023, section 3.2)."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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
from ctp_lib.settings.learning import TunedSpec
from ctp_lib.settings.levels import Level
from ctp_lib.settings.spec import SPEC, Count


@dataclass(**SPEC, kw_only=True)
class MergedLoraSpec(TunedSpec):
    """The rank in every matrix, and how it is learned."""

    rank: Count


class Masked(nn.Module):
    """W + M (B A), where M is zero for what was pruned, the zeros of W, and one elsewhere. What is only quantised has no such zeros."""

    def __init__(self, weight: Tensor, wide: Tensor, thin: Tensor, pruned: bool):
        super().__init__()
        self.register_buffer("mask", weight != 0 if pruned else torch.ones_like(weight, dtype=torch.bool), persistent=False)
        self.wide, self.thin = nn.Parameter(wide.to(weight.device)), nn.Parameter(thin.to(weight.device))

    def forward(self, weight: Tensor) -> Tensor:
        """The weight that is computed with."""
        return weight + ((self.wide @ self.thin) * self.mask).to(weight.dtype)


class Merged(kept.Kept):
    """``<name>.wide`` and ``<name>.thin`` of every matrix, fp32. ``bytes``: none for a pruned model. A quantised one leaves its grid, so what it
    keeps is counted in 16 bits.
    """

    def __init__(self, tensors: Mapping[str, Tensor], network: PreTrainedModel, run: Any = None):
        super().__init__(tensors, run)
        pruned, quantised = damage(network)
        matrices = [module.weight for module in loading.compressible(network).values()]
        self.bytes = 2 * sum(int(weight.count_nonzero()) if pruned else weight.numel() for weight in matrices) * quantised

    @contextmanager
    def on(self, network) -> Iterator[Subject]:
        """The network with these in its weights; after the block its own again."""
        before = {}
        try:
            for name, module in loading.compressible(network).items():
                before[name] = module.weight.detach().clone()
                parts = self.tensors[f"{name}.wide"], self.tensors[f"{name}.thin"]
                merged = Masked(module.weight, *parts, damage(network)[0])
                with torch.no_grad():
                    module.weight.copy_(merged(module.weight))
            yield Subject(network)
        finally:
            kept.put(network, {f"{name}.weight": weight for name, weight in before.items()})


def damage(network: PreTrainedModel) -> tuple[bool, bool]:
    """Whether ``network`` was pruned, and whether it was quantised. Of a copy that the reader brings neither is known, so it counts as both."""
    level = getattr(network, "compressed_to", Level(sparsity=0.5))
    return level.sparsity > 0 or level.given is not None, level.bits is not None or level.given is not None


class MergedLora(Method):
    """Every matrix that was compressed, by the soft prompt's loss. B starts at zero, A is drawn as PEFT draws it."""

    name, label, colour = "merged_lora", "compressed + merged LoRA", "#1864ab"

    def settings(self, study, own) -> MergedLoraSpec:
        """``rank``, 8 unless said; of ``training`` what differs from the soft prompt's, the learning rate 1e-3 unless said."""
        return asked(MergedLoraSpec, study, self.name, own, 1e-3, rank=8)

    def learn(self, network, text, settings: MergedLoraSpec, teacher, seed, *, checkpoint, label, **_) -> Merged:
        """Learned beside the weights, through the mask."""
        matrices, generator = loading.compressible(network), torch.Generator().manual_seed(seed)
        try:
            for module in matrices.values():
                thin = torch.empty(settings.rank, module.in_features)
                nn.init.kaiming_uniform_(thin, a=5**0.5, generator=generator)
                parts = Masked(module.weight, torch.zeros(module.out_features, settings.rank), thin, damage(network)[0])
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

    def load(self, folder, network) -> Merged:
        """Read it back."""
        return Merged(kept.read(folder / kept.FILE), network)


METHOD = MergedLora()
