"""How far a compressed model's predictions are from the uncompressed model's: a loss that says more about every token than the plain one.

The plain loss knows one next token; the uncompressed model, as a teacher, knows how likely each would have been (Hinton et al. 2015, at
temperature 1). That is the same for every level, seed and method, so it is computed once.
"""

import hashlib
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import kl_div
from transformers import PreTrainedModel

from ctp_lib.model import likelihood
from ctp_lib.model.likelihood import FrozenHeadLoss, Head, PromptCache, frozen_head, nll_of_chunk, predicting_rows, token_nll
from ctp_lib.results import tensor_file
from ctp_lib.settings import paths
from ctp_lib.settings.spec import ParameterError

AT_MOST = 4 * 10**9  # bytes that are kept of one model; what goes beyond is computed each time


class Teacher:
    """``network``, frozen. With a ``folder``, the last hidden states of windows are rounded to 16 bits and kept there.

    They are rounded also where they are not kept for want of room, so that the numbers do not depend on it.
    """

    def __init__(self, network: PreTrainedModel, folder: Path | None = None):
        self.network, self.folder = network, folder
        self._room = AT_MOST - sum(path.stat().st_size for path in folder.glob("*.safetensors")) if folder else 0

    @torch.no_grad()
    def predicts(self, windows: Tensor) -> tuple[Tensor, Head | None]:
        """What :func:`ctp_lib.model.likelihood.predicting_rows` gives of ``windows`` (int64, number x length), without a prompt."""
        head = frozen_head(self.network)
        if head is None or self.folder is None:
            return predicting_rows(self.network, windows, None)
        name = hashlib.sha256(repr(tuple(windows.shape)).encode() + windows.cpu().numpy().tobytes()).hexdigest()[:24]
        path = self.folder / f"{name}.safetensors"
        if path.exists():
            try:
                return tensor_file.load(path)[0]["states"].to(head.linear.weight.device, self.network.dtype), head
            except ParameterError:
                path.unlink(missing_ok=True)  # damaged, so it is made again
        rows = predicting_rows(self.network, windows, None)[0]
        states = rows.to(torch.bfloat16 if rows.dtype == torch.bfloat16 else torch.float16)
        if not states.isfinite().all():
            return rows, head
        if states.nbytes <= self._room:
            self._room -= states.nbytes
            with paths.in_turn(self.folder):  # another stage may be at the same windows
                tensor_file.save(path, {"states": states})
        return states.to(rows.dtype), head


def token_loss(network: PreTrainedModel, windows: Tensor, prompt: Tensor | None, teacher: Teacher | None) -> Tensor:
    """The loss of every token but the first of each window, fp32, number x (length - 1): its NLL, or its divergence from ``teacher``."""
    return token_nll(network, windows, prompt) if teacher is None else token_divergence(network, windows, prompt, teacher)


def token_divergence(model: PreTrainedModel, windows: Tensor, prompt: Tensor | None, teacher: Teacher) -> Tensor:
    """KL(teacher || model) in nats of the tokens that :func:`ctp_lib.model.likelihood.token_nll` scores: fp32, number x (length - 1).

    ``prompt`` (n x hidden) stands before them for ``model`` alone; these two get gradients. Logits are in memory some rows at a time.
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
    rows, head = predicting_rows(model, windows, prompt)
    targets = windows[:, 1:].flatten().to(rows.device)
    nll, divergence = (torch.empty(len(rows), dtype=torch.float32, device=rows.device) for _ in range(2))
    at_once = likelihood.ROWS_AT_ONCE[rows.device.type]
    for part in (slice(first, first + at_once) for first in range(0, len(rows), at_once)):
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
    wanted, found = _log_probabilities(known, knows, part).to(logits.device), logits.log_softmax(1)
    likely = wanted.exp()
    divergence = wanted.sub_(found).mul_(likely).sum(1)
    return divergence, found.exp_().sub_(likely) if slope else None
