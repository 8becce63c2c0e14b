"""What is learned by, token by token, and whose weights it depends on."""

from __future__ import annotations

from torch import Tensor
from transformers import PreTrainedModel

from ctp_lib.model import loading
from ctp_lib.model.divergence import token_divergence
from ctp_lib.model.likelihood import token_nll


def token_loss(network: PreTrainedModel, windows: Tensor, prompt: Tensor | None, teacher: PreTrainedModel | None) -> Tensor:
    """The loss of every token but the first of each window, fp32, number x (length - 1): its NLL, or its divergence from ``teacher``."""
    return token_nll(network, windows, prompt) if teacher is None else token_divergence(network, windows, prompt, teacher)


def identity(network: PreTrainedModel, teacher: PreTrainedModel | None) -> dict[str, str | None]:
    """Whose weights an unfinished training depends on."""
    return {"base": loading.fingerprint(network), "teacher": None if teacher is None else loading.fingerprint(teacher)}
