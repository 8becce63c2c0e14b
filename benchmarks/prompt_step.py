"""One step of prompt tuning: ours, PEFT in a plain loop, PEFT under transformers' Trainer, and the released code's way."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import Any

import torch
from peft import PromptTuningConfig, TaskType, get_peft_model
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel, Trainer, TrainingArguments

from benchmarks import measure
from benchmarks.measure import Benchmark
from benchmarks.shapes import Shape, forward_flops
from ctp_lib.machine import step_cost

LEARNING_RATE = 1e-3


def ours(model: PreTrainedModel, shape: Shape) -> Callable[[], Any]:
    """The study's own step; see :func:`ctp_lib.model.likelihood.token_nll`."""
    candidate, batch = step_cost.soft_prompt(model, shape.prompt), shape.windows()
    optimizer = torch.optim.AdamW(candidate.trainable, lr=LEARNING_RATE)
    return lambda: candidate.step(batch, optimizer)


def peft_model(model: PreTrainedModel, vectors: int) -> torch.nn.Module:
    """PEFT's prompt tuning from the same start as ours, the first tokens of the vocabulary."""
    adapted = get_peft_model(model, PromptTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=vectors))
    with torch.no_grad():
        adapted.prompt_encoder["default"].embedding.weight.copy_(model.get_input_embeddings().weight[:vectors])
    return adapted


def labels_of(windows: torch.Tensor) -> torch.Tensor:
    """Every token but the first of a window, which is context only, so that all sides score the same."""
    return torch.cat([torch.full_like(windows[:, :1], -100), windows[:, 1:]], dim=1)


def peft_loop(model: PreTrainedModel, shape: Shape) -> Callable[[], Any]:
    """PEFT in a plain loop."""
    adapted, batch = peft_model(model, shape.prompt), shape.windows().to(shape.device)
    optimizer = torch.optim.AdamW([weight for weight in adapted.parameters() if weight.requires_grad], lr=LEARNING_RATE)

    def step() -> torch.Tensor:
        loss = adapted(input_ids=batch, labels=labels_of(batch), use_cache=False).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    return step


def peft_trainer(model: PreTrainedModel, shape: Shape) -> Callable[[], Any]:
    """PEFT under transformers' Trainer, one step a call: what its loop does for each, without what it sets up for a training."""
    adapted, batch = peft_model(model, shape.prompt), shape.windows()
    arguments = TrainingArguments(
        tempfile.mkdtemp(), per_device_train_batch_size=shape.batch, max_steps=1_000_000, learning_rate=LEARNING_RATE,
        lr_scheduler_type="linear", report_to="none", save_strategy="no", logging_strategy="no", disable_tqdm=True,
        use_cpu=shape.device == "cpu", bf16=False,
    )  # fmt: skip
    trainer = Trainer(adapted, arguments, train_dataset=[{"input_ids": row, "labels": row} for row in batch])
    trainer.create_optimizer_and_scheduler(num_training_steps=1_000_000)
    trainer.model, trainer.optimizer = trainer.accelerator.prepare(trainer.model, trainer.optimizer)
    trainer.current_gradient_accumulation_steps = 1
    inputs = {"input_ids": batch, "labels": labels_of(batch)}

    def step() -> torch.Tensor:
        loss = trainer.training_step(trainer.model, dict(inputs))
        trainer.accelerator.clip_grad_norm_(trainer.model.parameters(), arguments.max_grad_norm)
        trainer.optimizer.step()
        trainer.lr_scheduler.step()
        trainer.optimizer.zero_grad()
        return loss

    return step


def released(model: PreTrainedModel, shape: Shape) -> Callable[[], Any]:
    """As the released code does it: logits of every position, the prompt's too, and a loss that is not reduced before its mean."""
    embed, batch = model.get_input_embeddings(), shape.windows().to(shape.device)
    prompt = torch.nn.Parameter(embed.weight[: shape.prompt].detach().clone().float())
    optimizer = torch.optim.AdamW([prompt], lr=LEARNING_RATE)
    ignored = torch.full((shape.batch, shape.prompt), -100, device=shape.device)

    def step() -> torch.Tensor:
        embedded = embed(batch)
        inputs = torch.cat([prompt.to(embedded).expand(shape.batch, -1, -1), embedded], dim=1)
        logits = model(inputs_embeds=inputs, use_cache=False).logits
        labels = torch.cat([ignored, labels_of(batch)], dim=1)[:, 1:]
        loss = cross_entropy(logits[:, :-1].reshape(-1, logits.shape[-1]).float(), labels.reshape(-1), reduction="none").mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    return step


def flops(model: PreTrainedModel, shape: Shape) -> float:
    """Forward, and backward to the input alone: as much again for a matrix, twice as much for attention, both of whose factors vary."""
    matrices, attention = forward_flops(model, shape, shape.batch)
    return 2 * matrices + 3 * attention


BENCHMARK = Benchmark(
    name="prompt_step",
    title="A step of prompt tuning",
    sides={"ours": ours, "PEFT, plain loop": peft_loop, "PEFT, Trainer": peft_trainer, "released code": released},
    flops=flops,
    tokens=lambda shape: shape.batch * shape.length,
    goals={"PEFT, plain loop": 1.5},
    memory_goals={"PEFT, plain loop": 0.5},
    ceiling_goals={"opt-125m": 0.5},
    shapes=("embedded", "smollm2", "opt-125m"),
)

if __name__ == "__main__":
    measure.main(BENCHMARK)
