"""What one training step takes: seconds, and the bytes of the tensors that a forward pass leaves behind for the backward pass.

They depend neither on the machine nor on the allocator nor on what ran before.
"""

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ctp_lib.machine.memory import PeakBytes
from ctp_lib.model import loading
from ctp_lib.model.divergence import Teacher, token_loss
from ctp_lib.recovery.lora import METHOD as LORA
from ctp_lib.recovery.lora import with_lora
from ctp_lib.recovery.soft_prompt import METHOD as PROMPT
from ctp_lib.recovery.soft_prompt import SoftPrompt
from ctp_lib.results.provenance import timed
from ctp_lib.settings.learning import LoraSpec


@dataclass(frozen=True)
class Candidate:
    """A method ready to train: the network that is run, the prompt before its input if there is one, what gets gradients, and the
    model that the network is distilled from, if the loss is not the plain one. ``by`` is the method's name, empty for fine-tuning.
    """

    network: PreTrainedModel
    trainable: list[nn.Parameter]
    prompt: SoftPrompt | None = None
    teacher: Teacher | None = None
    by: str = ""

    def loss(self, batch: Tensor) -> Tensor:
        """The mean loss of ``batch`` (int64, windows x length)."""
        return token_loss(self.network, batch, self.prompt() if self.prompt else None, self.teacher).mean()

    def step(self, batch: Tensor, optimizer: torch.optim.Optimizer) -> None:
        """One step on ``batch`` (int64, windows x length): forward, backward, update."""
        self.loss(batch).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def soft_prompt(network: PreTrainedModel, tokens: int, *, recompute: bool = False) -> Candidate:
    """A soft prompt of ``tokens`` vectors; the network stays frozen, and with ``recompute`` keeps no activations."""
    if recompute:
        loading.recompute_activations(network)
    prompt = SoftPrompt.from_vocabulary(network, tokens, "first", 0)
    return Candidate(network, list(prompt.parameters()), prompt, by=PROMPT.name)


def lora(network: PreTrainedModel, spec: LoraSpec) -> Candidate:
    """LoRA; the network's own weights stay frozen."""
    adapted = with_lora(network, spec).train()
    return Candidate(adapted, [weight for weight in adapted.parameters() if weight.requires_grad], by=LORA.name)


def full(network: PreTrainedModel) -> Candidate:
    """Fine-tuning of every weight."""
    network.requires_grad_(True)
    return Candidate(network, list(network.parameters()))


def kept_bytes(candidate: Candidate, batch: Tensor) -> int:
    """Bytes that one forward pass leaves in memory for its backward pass, beside the weights and what is trained."""
    with PeakBytes([*candidate.network.parameters(), *candidate.trainable]) as counted:
        loss = candidate.loss(batch)
    return counted.now - loss.nbytes


def table(candidates: Mapping[str, Callable[[], Candidate]], batch: Tensor, *, repeats: int) -> pd.DataFrame:
    """A row a method, one in memory at a time: trainable parameters, median seconds of ``repeats`` steps after a first, kept bytes."""
    return pd.DataFrame({"method": name, **_row(ready(), batch, repeats)} for name, ready in candidates.items())


def _row(candidate: Candidate, batch: Tensor, repeats: int) -> dict[str, Any]:
    optimizer = torch.optim.AdamW(candidate.trainable, lr=0.0)
    taken = [timed(lambda: candidate.step(batch, optimizer))[0] for _ in range(repeats + 1)]
    return {
        "by": candidate.by,
        "trainable_parameters": sum(weight.numel() for weight in candidate.trainable),
        "seconds": statistics.median(taken[1:]),
        "activation_bytes": kept_bytes(candidate, batch),
    }
