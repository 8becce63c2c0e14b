"""Norms and biases alone, which take the place of the model's own: not a byte more (PERP, Zimmer et al. 2023, section 3.1)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from ctp_lib.recovery import kept
from ctp_lib.recovery.base import Method
from ctp_lib.settings.learning import TunedSpec
from ctp_lib.settings.study import Study


class Norms(Method):
    """The weights of every norm and every bias of a linear layer, by the soft prompt's loss. Embeddings and heads stay as they are."""

    name, label, colour = "norms", "compressed + norms tuned", "#0c8599"

    def settings(self, study: Study, own: Mapping[str, Any]) -> TunedSpec:
        """Of ``training`` what differs from the soft prompt's; the learning rate is 1e-3 unless said."""
        return kept.tuned(study, own, 1e-3, self.name)

    def learn(self, network: PreTrainedModel, text, settings: TunedSpec, teacher, seed, *, checkpoint, label, **_) -> kept.Replaced:
        """Trained in place, and put back."""
        before = {name: weight.detach().clone() for name, weight in network.named_parameters() if _belongs(name)}
        own = dict(network.named_parameters())
        try:
            for name in before:
                own[name].requires_grad_(True)
            run = kept.trained(network, network, text, settings, teacher, seed, checkpoint=checkpoint, label=label)
            return kept.Replaced({name: own[name] for name in before}, run)
        finally:
            network.requires_grad_(False)
            kept.put(network, before)

    def load(self, folder: Path, network: PreTrainedModel) -> kept.Replaced:
        """Read them back."""
        return kept.Replaced(kept.read(folder))


def _belongs(name: str) -> bool:
    *_, layer, what = name.split(".")
    return "norm" in layer or layer.startswith("ln_") or (what == "bias" and "head" not in layer)


METHOD = Norms()
