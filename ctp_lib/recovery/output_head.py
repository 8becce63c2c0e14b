"""Repairs of the last step alone: every logit times a number, or plus one of its own. How much of the damage is only bad calibration?"""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ctp_lib.evaluation.subject import Subject
from ctp_lib.recovery import kept
from ctp_lib.recovery.base import Method
from ctp_lib.recovery.learning import asked, learn
from ctp_lib.settings.learning import TunedSpec


class Logits(nn.Module):
    """A head, and what is done with its logits before any cap: times ``scale``, plus ``bias``, whichever of them exist."""

    def __init__(self, head: nn.Module, tensors: Mapping[str, Tensor]):
        super().__init__()
        self.head = head
        for name, tensor in tensors.items():
            self.register_parameter(name, nn.Parameter(tensor.detach().clone().to(head.weight.device)))

    def forward(self, hidden: Tensor) -> Tensor:
        """The logits that count."""
        logits = self.head(hidden)
        if hasattr(self, "scale"):
            logits = logits * self.scale.to(logits)
        return logits + self.bias.to(logits) if hasattr(self, "bias") else logits

    @torch.no_grad()
    def linear(self) -> nn.Linear:
        """The same as one linear layer, frozen."""
        weight, scale = self.head.weight, getattr(self, "scale", torch.ones(()))
        found = nn.utils.skip_init(nn.Linear, weight.shape[1], weight.shape[0], device=weight.device, dtype=weight.dtype)
        found.weight.copy_(weight * scale.to(weight))
        found.bias.copy_(getattr(self, "bias", torch.zeros(())) + (0 if self.head.bias is None else self.head.bias * scale))
        return found.requires_grad_(False)


class OnLogits(kept.Kept):
    """``scale`` (one number) or ``bias`` (one a token of the vocabulary), fp32."""

    @contextmanager
    def on(self, network) -> Iterator[Subject]:
        """The network with another head; after the block its own."""
        head = network.get_output_embeddings()
        try:
            network.set_output_embeddings(Logits(head, self.tensors).linear())
            yield Subject(network)
        finally:
            network.set_output_embeddings(head)


class OutputHead(Method):
    """A control: what it learns knows nothing of the input."""

    control, rate = True, 1e-2

    @abstractmethod
    def start(self, head: nn.Linear) -> dict[str, Tensor]:
        """Where it starts: the head as it is."""

    def settings(self, study, own) -> TunedSpec:
        """Of ``training`` what differs from the soft prompt's; the learning rate is 0.01 unless said."""
        return asked(TunedSpec, study, self.name, own, self.rate)

    def learn(self, network, text, settings: TunedSpec, teacher, seed, *, checkpoint, label, **_) -> OnLogits:
        """By the soft prompt's loss."""
        head = network.get_output_embeddings()
        trained = Logits(head, self.start(head))
        try:
            network.set_output_embeddings(trained)
            run = learn(trained, network, text, settings, teacher, seed, checkpoint=checkpoint, label=label)
        finally:
            network.set_output_embeddings(head)
        return OnLogits({name: weight for name, weight in trained.named_parameters(recurse=False)}, run)

    def load(self, folder, network) -> OnLogits:
        """Read it back."""
        return OnLogits(kept.read(folder / kept.FILE))
