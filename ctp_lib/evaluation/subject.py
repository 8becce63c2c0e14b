"""What is evaluated: a network, and the vectors that stand before its input if there are any."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor
from transformers import PreTrainedModel


@dataclass(frozen=True)
class Subject:
    """``network`` behind ``prompt`` (n x hidden), or alone. It can be scored, asked and made to write."""

    network: PreTrainedModel
    prompt: Tensor | None = None

    def routed(self, inputs: Sequence[Tensor]) -> Iterator[tuple[list[int], Subject]]:
        """Which of ``inputs`` (rows of token ids) go to which subject: here all of them to this one.

        A repair that chooses by its input gives one of several for each; a subject is good until the next is asked for.
        """
        yield list(range(len(inputs))), self
