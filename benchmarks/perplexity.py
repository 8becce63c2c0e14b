"""Perplexity behind a prompt: ours, and the released code's loop of one window and whole logits at a time."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from benchmarks import measure
from benchmarks.measure import Benchmark
from benchmarks.shapes import Shape, forward_flops
from ctp_lib.evaluation.perplexity import perplexity

WINDOWS = 8


def prompt_of(model: PreTrainedModel, shape: Shape) -> torch.Tensor:
    """The first tokens of the vocabulary as vectors."""
    return model.get_input_embeddings().weight[: shape.prompt].detach()


def ours(model: PreTrainedModel, shape: Shape) -> Callable[[], float]:
    """The study's own; see :func:`ctp_lib.evaluation.perplexity.perplexity`."""
    windows, prompt = shape.windows(WINDOWS), prompt_of(model, shape)
    return lambda: perplexity(model, windows, prompt).nll


def released(model: PreTrainedModel, shape: Shape) -> Callable[[], float]:
    """A window at a time, the logits of every position; here with the right divisor."""
    embed, windows, prompt = model.get_input_embeddings(), shape.windows(WINDOWS).to(shape.device), prompt_of(model, shape)

    @torch.no_grad()
    def score() -> float:
        total = 0.0
        for window in windows:
            embedded = torch.cat([prompt, embed(window)])[None]
            logits = model(inputs_embeds=embedded, use_cache=False).logits
            labels = torch.cat([torch.full((shape.prompt + 1,), -100, device=shape.device), window[1:]])[1:]
            total += cross_entropy(logits[0, :-1].float(), labels, reduction="none").sum().item()
        return total / (len(windows) * (shape.length - 1))

    return score


BENCHMARK = Benchmark(
    name="perplexity",
    title="Perplexity of eight windows behind a prompt",
    sides={"ours": ours, "released loop": released},
    flops=lambda model, shape: sum(forward_flops(model, shape, WINDOWS, prompts=1)),
    tokens=lambda shape: WINDOWS * shape.length,
    goals={"released loop": 1.5},
    memory_goals={"released loop": 0.5},
    ceiling_goals={"smollm2": 0.75},
)

if __name__ == "__main__":
    measure.main(BENCHMARK)
