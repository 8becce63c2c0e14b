"""How long a reader waits: for a text to be read, and for each token that is written after it."""

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from ctp_lib.evaluation.subject import Subject
from ctp_lib.model.likelihood import after_prompt


@torch.inference_mode()
def latency(subject: Subject, ids: Tensor, *, repeats: int = 5) -> tuple[float, float]:
    """Seconds to read ``ids`` (int64, one row), and to read one token behind them: medians of ``repeats`` after a first.

    What stands before every input is read beforehand, as a server keeps it. A choice among several is made anew for each text, and counts.
    """
    read, written = [], []
    for _ in range(repeats + 1):
        part = subject
        routing = _seconds(lambda: [part for _, part in subject.routed([ids])])
        for _, chosen in subject.routed([ids]):
            part = chosen
        row = ids[None].to(part.network.device)
        cache = after_prompt(part.network, part.prompt)
        read.append(routing + _seconds(lambda part=part, row=row, cache=cache: _step(part, row, cache)))
        written.append(_seconds(lambda part=part, row=row, cache=cache: _step(part, row[:, -1:], cache)))
    return statistics.median(read[1:]), statistics.median(written[1:])


def _step(part: Subject, row: Tensor, cache) -> None:
    part.network(input_ids=row, past_key_values=cache, use_cache=True, logits_to_keep=1)


def _seconds(work: Callable[[], object]) -> float:
    started = _now()
    work()
    return _now() - started


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
