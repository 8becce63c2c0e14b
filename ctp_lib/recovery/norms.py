"""Only norms and biases are trained, in place, so no byte is added (PERP, Zimmer et al. 2023, section 3.1)."""

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from transformers import PreTrainedModel

from ctp_lib.recovery import kept
from ctp_lib.recovery.base import Method
from ctp_lib.recovery.learning import asked, learn
from ctp_lib.settings.learning import TunedSpec


class Moved(nn.Module):
    """What is there, plus ``by``."""

    def __init__(self, weight: Tensor):
        super().__init__()
        self.by = nn.Parameter(torch.zeros_like(weight, dtype=torch.float32))

    def forward(self, weight: Tensor) -> Tensor:
        """In the dtype of what is there."""
        return (weight.float() + self.by).to(weight.dtype)


class Norms(Method):
    """The weights of every norm and every bias of a linear layer, by the soft prompt's loss. Embeddings and heads stay as they are."""

    name, label, colour = "norms", "compressed + norms tuned", "#0c8599"

    def settings(self, study, own) -> TunedSpec:
        """Of ``training`` what differs from the soft prompt's; the learning rate is 1e-3 unless said."""
        return asked(TunedSpec, study, self.name, own, 1e-3)

    def learn(self, network, text, settings: TunedSpec, teacher, seed, *, checkpoint, label, **_) -> kept.Replaced:
        """Trained as fp32 differences from what is there, since steps would be lost in the rounding of 16 bits."""
        found = [(name, *_owner(network, name)) for name, _ in network.named_parameters() if _belongs(name)]
        try:
            for _, module, what in found:
                parametrize.register_parametrization(module, what, Moved(getattr(module, what)))
            run = learn(network, network, text, settings, teacher, seed, checkpoint=checkpoint, label=label)
            return kept.Replaced({name: getattr(module, what).float() for name, module, what in found}, run)
        finally:
            for _, module, what in found:
                if parametrize.is_parametrized(module, what):
                    parametrize.remove_parametrizations(module, what, leave_parametrized=False)

    def load(self, folder, network) -> kept.Replaced:
        """Read them back."""
        return kept.Replaced(kept.read(folder / kept.FILE))


def _owner(network: PreTrainedModel, name: str) -> tuple[nn.Module, str]:
    module, _, what = name.rpartition(".")
    return network.get_submodule(module), what


def _belongs(name: str) -> bool:
    *_, layer, what = name.split(".")
    return "norm" in layer or layer.startswith("ln_") or (what == "bias" and "head" not in layer)


METHOD = Norms()
