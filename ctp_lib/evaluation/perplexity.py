"""Perplexity that counts the same tokens with and without a prompt, and the released code's figure beside it."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, PreTrainedModel

from ctp_lib.evaluation.subject import Subject
from ctp_lib.model.divergence import Teacher, nll_and_divergence
from ctp_lib.model.likelihood import PromptCache, token_nll
from ctp_lib.text.selection import ScoredText

PARTS = 8
"""Equal parts of a window, from its beginning to its end, of which each has its own mean NLL."""
TOKENS_AT_ONCE = {"cpu": 2048, "cuda": 8192, "mps": 8192}  # real tokens that go through the model together


@dataclass(frozen=True)
class Perplexity:
    """The mean NLL over the window - 1 scored tokens of each window, in nats per token, and, if asked for, that of KL(uncompressed || model).

    ``part_nll`` is that over all windows of each of their :data:`PARTS`.
    """

    window_nll: tuple[float, ...]
    window: int
    prompt_tokens: int
    window_kl: tuple[float, ...] | None = None
    part_nll: tuple[float, ...] = ()

    @property
    def windows(self) -> int:
        """Number of windows that were scored."""
        return len(self.window_nll)

    @property
    def nll(self) -> float:
        """Mean NLL over all ``tokens_scored`` real tokens, in nats per token."""
        return math.fsum(self.window_nll) / self.windows

    @property
    def tokens_scored(self) -> int:
        """Real tokens that ``nll`` is the mean of."""
        return self.windows * (self.window - 1)

    @property
    def ppl(self) -> float:
        """exp(NLL), the exact perplexity."""
        return math.exp(self.nll)

    @property
    def ppl_released(self) -> float:
        """What the paper's released code prints: exp(NLL (L - 1) / (n + L - 1)), whose divisor counts the n positions of the prompt too."""
        real = self.window - 1
        return math.exp(self.nll * (real / (self.prompt_tokens + real)))

    def record(self) -> dict[str, Any]:
        """All figures by the names of ``results/perplexity.csv``, the number of windows, and each window's NLL."""
        figures = {name: getattr(self, name) for name in ("windows", "nll", "ppl", "ppl_released", "tokens_scored")}
        return asdict(self) | figures | {"kl": None if self.window_kl is None else math.fsum(self.window_kl) / self.windows}


def windows_at_once(window: int, device: torch.device) -> int:
    """Windows of so many tokens that go through a model on ``device`` together."""
    return max(1, TOKENS_AT_ONCE[device.type] // window)


@torch.inference_mode()
def perplexity(
    model: PreTrainedModel,
    windows: Tensor,
    prompt: Tensor | Cache | None = None,
    teacher: Teacher | None = None,
    *,
    batch_windows: int = 0,
) -> Perplexity:
    """Score ``windows`` (int64, number x length), behind a ``prompt`` as a :class:`Subject` has it; with a ``teacher`` the divergence from it.

    ``batch_windows`` go through the model at a time, by default as many as hold :data:`TOKENS_AT_ONCE`; means are taken in fp64. Raises
    :class:`FloatingPointError` when the model answers with anything but finite numbers.
    """
    length = windows.shape[1]
    scored: list[float] = []
    apart: list[float] = []
    by_token = torch.zeros(length - 1, dtype=torch.float64)
    before = None if prompt is None else PromptCache(model, prompt)
    for batch in windows.split(batch_windows or windows_at_once(length, model.device)):
        if teacher is None:
            nll = token_nll(model, batch, before)
        else:
            nll, divergence = nll_and_divergence(model, batch, before, teacher)
            apart += divergence.cpu().double().mean(1).tolist()
        nll = nll.cpu().double()  # where there is fp64
        scored += nll.mean(1).tolist()
        by_token += nll.sum(0) / len(windows)
    if not all(map(math.isfinite, [*scored, *apart])):
        raise FloatingPointError("the model's perplexity is not finite; compute in float32 or take a milder level")
    parts = tuple(part.mean().item() for part in by_token.tensor_split(PARTS) if len(part))
    return Perplexity(tuple(scored), length, Subject(model, prompt).prompt_tokens, tuple(apart) or None, parts)


def perplexity_of(subject: Subject, windows: Tensor, teacher: Teacher | None = None) -> Perplexity:
    """Score ``windows`` (int64, number x length), each by the part of ``subject`` that it is routed to; ``prompt_tokens`` is the longest's."""
    scored, apart, longest = [0.0] * len(windows), [0.0] * len(windows), 0
    parts = torch.zeros(min(PARTS, windows.shape[1] - 1), dtype=torch.float64)
    for rows, part in subject.routed(windows):
        found = perplexity(part.network, windows[rows], part.prompt, teacher)
        longest = max(longest, found.prompt_tokens)
        parts += torch.tensor(found.part_nll, dtype=torch.float64) * (len(rows) / len(windows))
        for row, nll, kl in zip(rows, found.window_nll, found.window_kl or found.window_nll, strict=True):
            scored[row], apart[row] = nll, kl
    return Perplexity(tuple(scored), windows.shape[1], longest, tuple(apart) if teacher else None, tuple(parts.tolist()))


def bits_per_byte(result: Perplexity, bytes_per_token: float) -> float:
    """NLL in bits per byte of text, for comparing across tokenizers. ``bytes_per_token`` is that of the scored text."""
    return result.nll / math.log(2) / bytes_per_token


def score(
    subject: Subject, texts: Mapping[str, ScoredText], teachers: Mapping[str, Teacher] | None = None, *, method: str, **fields: Any
) -> list[dict[str, Any]]:
    """Score each of ``texts``, and the divergence from that of ``teachers`` which its corpus has: a row a corpus, by the names of
    ``perplexity.csv``.

    ``fields`` stand in each row; ``text_digest`` tells which tokens were scored, ``clusters`` which windows share documents.
    """
    kind = {} if subject.prompt is None else {"prompt_kind": "learned"}
    made = {"method": method, **kind, "trainable_parameters": 0, "bytes_added": 0, **fields}
    rows = []
    for corpus, text in texts.items():
        result = perplexity_of(subject, text.windows, (teachers or {}).get(corpus))
        found = result.record() | {"bits_per_byte": bits_per_byte(result, text.bytes_per_token)}
        read = {"text_digest": text.digest, "clusters": text.clusters}
        rows.append({**made, "evaluated_on": corpus, "split": "test", **found, **read})
    return rows
