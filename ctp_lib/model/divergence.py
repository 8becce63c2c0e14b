"""How far a compressed model is from itself uncompressed: a loss that compression has at hand, and that tells more of every token.

The plain loss knows one next token; the uncompressed model knows how likely each would have been (Hinton et al. 2015, at temperature 1).
"""

from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import kl_div
from transformers import PreTrainedModel

from ctp_lib.model.likelihood import ROWS_AT_ONCE, FrozenHeadLoss, Head, PromptCache, nll_of_chunk, predicting_rows, token_nll
from ctp_lib.model.teacher import Teacher


def token_loss(network: PreTrainedModel, windows: Tensor, prompt: Tensor | None, teacher: Teacher | None) -> Tensor:
    """The loss of every token but the first of each window, fp32, number x (length - 1): its NLL, or its divergence from ``teacher``."""
    return token_nll(network, windows, prompt) if teacher is None else token_divergence(network, windows, prompt, teacher)


def token_divergence(model: PreTrainedModel, windows: Tensor, prompt: Tensor | None, teacher: Teacher) -> Tensor:
    """KL(teacher || model) in nats of the distribution of every token of ``windows`` but the first of each: fp32, number x (length - 1).

    The tokens are those of :func:`ctp_lib.model.likelihood.token_nll`; ``prompt`` (n x hidden) stands before them for ``model`` alone. Only
    ``model`` and ``prompt`` get gradients, and logits are in memory some rows at a time.
    """
    known, knows = teacher.predicts(windows)
    rows, head = predicting_rows(model, windows, prompt)
    if head is None:
        wanted = _log_probabilities(known, knows, slice(None))
        divergence = kl_div(rows.log_softmax(1), wanted, reduction="none", log_target=True).sum(1)
    else:
        divergence = FrozenHeadLoss.apply(rows, head, partial(_divergence_of_chunk, known, knows))
    return divergence.view(len(windows), -1)


@torch.inference_mode()
def nll_and_divergence(
    model: PreTrainedModel, windows: Tensor, prompt: Tensor | PromptCache | None, teacher: Teacher
) -> tuple[Tensor, Tensor]:
    """What :func:`ctp_lib.model.likelihood.token_nll` and :func:`token_divergence` give, of one pass through ``model``."""
    known, knows = teacher.predicts(windows)
    targets = windows.to(model.device)[:, 1:].flatten()
    rows, head = predicting_rows(model, windows, prompt)
    nll, divergence = (torch.empty(len(rows), dtype=torch.float32, device=rows.device) for _ in range(2))
    for first in range(0, len(rows), ROWS_AT_ONCE[rows.device.type]):
        part = slice(first, first + ROWS_AT_ONCE[rows.device.type])
        logits = rows[part] if head is None else head(rows[part])
        divergence[part] = _divergence_of_chunk(known, knows, logits, part, False)[0]
        nll[part] = nll_of_chunk(targets, logits, part, False)[0]
    return nll.view(len(windows), -1), divergence.view(len(windows), -1)


@torch.no_grad()
def _log_probabilities(known: Tensor, knows: Head | None, part: slice) -> Tensor:
    """Of the teacher: its rows ``part`` as log probabilities, fp32, rows x vocabulary."""
    return (known[part] if knows is None else knows(known[part])).log_softmax(1)


def _divergence_of_chunk(
    known: Tensor, knows: Head | None, logits: Tensor, part: slice, slope: bool
) -> tuple[Tensor, Tensor | None]:
    wanted, found = _log_probabilities(known, knows, part), logits.log_softmax(1)
    likely = wanted.exp()
    divergence = wanted.sub_(found).mul_(likely).sum(1)
    return divergence, found.exp_().sub_(likely) if slope else None
