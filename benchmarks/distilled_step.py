"""One step of a prompt that is distilled: with what the uncompressed model predicts kept from before, and with that model read at every step."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from benchmarks import measure, prompt_step
from benchmarks.measure import Benchmark
from benchmarks.shapes import Shape, matrix_weights
from ctp_lib.machine import step_cost
from ctp_lib.model.divergence import Teacher


def by(kept: bool) -> Callable[[PreTrainedModel, Shape], Callable[[], Any]]:
    """The study's own step, with or without a folder of the uncompressed model's states."""

    def make(model: PreTrainedModel, shape: Shape) -> Callable[[], Any]:
        teacher = Teacher(copy.deepcopy(model), Path(tempfile.mkdtemp()) if kept else None)
        candidate, batch = replace(step_cost.soft_prompt(model, shape.prompt), teacher=teacher), shape.windows()
        optimizer = torch.optim.AdamW(candidate.trainable, lr=prompt_step.LEARNING_RATE)
        return lambda: candidate.step(batch, optimizer)

    return make


def flops(model: PreTrainedModel, shape: Shape) -> float:
    """Of a step by the plain loss, and of the uncompressed model's head."""
    _, head = matrix_weights(model)
    return prompt_step.flops(model, shape) + 2 * head * shape.batch * shape.length


BENCHMARK = Benchmark(
    name="distilled_step",
    title="A step of distillation",
    sides={
        "ours": by(kept=True),
        "uncompressed model read anew": by(kept=False),
        "PEFT, plain loop and loss": prompt_step.peft_loop,
    },
    flops=flops,
    tokens=lambda shape: shape.batch * shape.length,
    goals={"uncompressed model read anew": 1.3},
    ceiling_goals={"smollm2": 0.75},
)

if __name__ == "__main__":
    measure.main(BENCHMARK)
