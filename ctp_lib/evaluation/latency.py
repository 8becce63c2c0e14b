"""How long a reader waits: for a text to be read, and for each token that is written after it."""

import statistics

import torch
from torch import Tensor
from transformers import Cache

from ctp_lib.evaluation.subject import Subject
from ctp_lib.model.likelihood import after_prompt
from ctp_lib.results.provenance import timed


@torch.inference_mode()
def latency(subject: Subject, ids: Tensor, *, repeats: int = 5) -> tuple[float, float]:
    """Seconds to read ``ids`` (int64, one row), and to read one token behind them: medians of ``repeats`` after a first.

    What stands before every input is read beforehand, as a server keeps it. A choice among several is made anew for each text, and counts.
    """
    read, written = [], []
    for _ in range(repeats + 1):
        routed = subject.routed([ids])
        routing, (_, part) = timed(lambda routed=routed: next(routed))
        row, cache = ids[None].to(part.network.device), after_prompt(part.network, part.prompt)
        reading, _ = timed(lambda part=part, row=row, cache=cache: _step(part, row, cache))
        writing, _ = timed(lambda part=part, row=row, cache=cache: _step(part, row[:, -1:], cache))
        read.append(routing + reading)
        written.append(writing)
    return statistics.median(read[1:]), statistics.median(written[1:])


def _step(part: Subject, row: Tensor, cache: Cache) -> None:
    part.network(input_ids=row, past_key_values=cache, use_cache=True, logits_to_keep=1)
