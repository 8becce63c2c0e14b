"""The one training loop: soft prompts, LoRA and the reference model all go through :func:`train`.

It knows nothing of what it trains. Everything random is a function of (seed, step), so a run that was killed goes on from its checkpoint to
the same bytes. A checkpoint is one safetensors file with plain values, never pickled; it is renamed into its place when it is complete.
"""

import json
import math
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ctp_lib.results import tensor_file
from ctp_lib.settings.learning import TrainingSpec

Loss = Callable[[Tensor], Tensor]
Optimizers = list[torch.optim.Optimizer]


@dataclass
class TrainingRun:
    """What a training did. ``curve``, a row a validation: step, tokens, training_loss (None at first), validation_nll, in nats per token."""

    curve: list[dict[str, float | None]] = field(default_factory=list)
    best_step: int = 0
    best_nll: float = math.inf
    tokens: int = 0
    seconds: float = 0.0


def learning_rate_factor(step: int, spec: TrainingSpec) -> float:
    """The share of the peak learning rate that step ``step`` (from 0) uses."""
    if step < spec.warmup_steps:
        return (step + 1) / (spec.warmup_steps + 1)
    decay_from = spec.warmup_steps if spec.schedule == "linear" else max(spec.warmup_steps, round(0.7 * spec.steps))
    return min(1.0, (spec.steps - step) / max(1, spec.steps - decay_from))


def adamw(module: nn.Module, spec: TrainingSpec) -> Optimizers:
    """The paper's optimizer, over whatever of ``module`` requires a gradient."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return [torch.optim.AdamW(parameters, lr=spec.learning_rate, weight_decay=spec.weight_decay)]


def train(
    module: nn.Module,
    loss: Loss,
    batch: Callable[[int], Tensor],
    spec: TrainingSpec,
    *,
    identity: dict[str, Any],
    validate: Callable[[], float],
    checkpoint: Path,
    label: str,
    optimizers: Callable[[nn.Module, TrainingSpec], Optimizers] = adamw,
) -> TrainingRun:
    """Train ``module`` and leave it at the step with the lowest validation NLL.

    ``batch(step)`` are int64 token ids, ``batch_windows`` x window; ``loss`` of some or all of its windows is a scalar mean in nats per token.
    ``validate()`` gives the validation NLL, every ``validate_every`` steps and after the last. A ``checkpoint`` of the same spec and
    ``identity`` (JSON values: seed, base, data) is taken up, also a finished one: the caller deletes it, once what was trained is saved.
    Raises :class:`FloatingPointError` when the loss is no longer finite.
    """
    state = _State(module, optimizers(module, spec), spec, identity, checkpoint)
    first = state.resume()
    if first < spec.steps:
        state.go_on(first, loss, batch, validate, label)
    state.restore_best()
    return state.run


class _State:
    """All that changes during a training: parameters, optimizers, the best so far, the record."""

    def __init__(self, module: nn.Module, optimizers: Optimizers, spec: TrainingSpec, identity: dict[str, Any], path: Path):
        self.trainable = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
        self.optimizers, self.spec, self.path = optimizers, spec, path
        # as a checkpoint gives it back: tuples are lists there
        self.identity = json.loads(json.dumps({**asdict(spec), **identity}))
        self.best = self.copied()
        self.run = TrainingRun()
        self.losses: list[float] = []
        self.last_loss = math.nan
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["peak_lr"] = group["lr"]

    def copied(self) -> dict[str, Tensor]:
        return {name: parameter.detach().clone() for name, parameter in self.trainable.items()}

    def go_on(self, first: int, loss: Loss, batch: Callable[[int], Tensor], validate: Callable[[], float], label: str) -> None:
        """From step ``first`` to the last, under a bar with a rate."""
        spec, run, started = self.spec, self.run, time.perf_counter() - self.run.seconds
        with tqdm(total=spec.steps, initial=first, desc=label, unit="step", mininterval=1.0) as bar:
            for step in range(first, spec.steps):
                if step % spec.validate_every == 0:
                    self.record(step, validate())
                windows = batch(step)
                self.step(step, loss, windows)
                run.tokens += windows.numel()
                run.seconds = time.perf_counter() - started
                rate = f"{run.tokens / run.seconds:,.0f} tokens/s"
                bar.set_postfix_str(f"loss {self.last_loss:.3f}, best {run.best_nll:.4f}, {rate}", refresh=False)
                bar.update()
                if (step + 1) % spec.checkpoint_every == 0 and step + 1 < spec.steps:
                    self.save(step + 1)
        self.record(spec.steps, validate())
        run.seconds = time.perf_counter() - started
        self.save(spec.steps)

    def step(self, step: int, loss: Loss, windows: Tensor) -> None:
        self.last_loss = 0.0
        for part in windows.split(self.spec.windows_at_once or len(windows)):
            share = loss(part) * (len(part) / len(windows))
            self.last_loss += share.item()
            if not math.isfinite(self.last_loss):
                advice = f"lower training.learning_rate ({self.spec.learning_rate})"
                raise FloatingPointError(f"the loss is {self.last_loss} at step {step}; {advice}")
            share.backward()
        self.losses.append(self.last_loss)
        nn.utils.clip_grad_norm_(self.trainable.values(), self.spec.clip)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak_lr"] * learning_rate_factor(step, self.spec)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def record(self, step: int, nll: float) -> None:
        training = sum(self.losses) / len(self.losses) if self.losses else None
        self.run.curve.append({"step": step, "tokens": self.run.tokens, "training_loss": training, "validation_nll": nll})
        self.losses.clear()
        if nll < self.run.best_nll:
            self.run.best_step, self.run.best_nll, self.best = step, nll, self.copied()

    @torch.no_grad()
    def restore_best(self) -> None:
        for name, parameter in self.trainable.items():
            parameter.copy_(self.best[name])

    def save(self, step: int) -> None:
        tensors = {f"now.{name}": parameter for name, parameter in self.trainable.items()}
        tensors |= {f"best.{name}": tensor for name, tensor in self.best.items()}
        for number, optimizer in enumerate(self.optimizers):
            for index, entries in optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer{number}.{index}.{name}": torch.as_tensor(value) for name, value in entries.items()}
        tensor_file.save(
            self.path, tensors, {"step": step, "losses": self.losses, "identity": self.identity, "run": asdict(self.run)}
        )

    @torch.no_grad()
    def resume(self) -> int:
        """Take up the checkpoint, if there is one of the same training; the step to go on from."""
        if not self.path.exists():
            return 0
        tensors, values = tensor_file.load(self.path)
        if values["identity"] != self.identity:
            return 0
        for name, parameter in self.trainable.items():
            parameter.copy_(tensors[f"now.{name}"])
            self.best[name] = tensors[f"best.{name}"].to(parameter.device)
        for number, optimizer in enumerate(self.optimizers):
            states: dict[int, dict[str, Tensor]] = defaultdict(dict)
            for key in (key for key in tensors if key.startswith(f"optimizer{number}.")):
                _, index, name = key.split(".", 2)
                states[int(index)][name] = tensors[key]
            optimizer.load_state_dict({**optimizer.state_dict(), "state": dict(states)})  # rates follow from the step
        self.run, self.losses = TrainingRun(**values["run"]), values["losses"]
        return values["step"]
