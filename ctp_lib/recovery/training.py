"""The one training loop: soft prompts, LoRA and the reference model all go through :func:`train`.

The loop knows nothing of what it trains. It gets a module whose trainable parameters it may change, a loss
of one batch, and the batch that belongs to a step; everything random is a function of (seed, step), so a run that was
killed goes on from its checkpoint to the same bytes. A checkpoint is one safetensors file with plain values, never pickled; it is renamed
into its place when it is complete.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm
from transformers import PreTrainedModel

from ctp_lib.model import loading
from ctp_lib.model.divergence import Teacher
from ctp_lib.settings import paths
from ctp_lib.settings.learning import TrainingSpec


@dataclass
class TrainingRun:
    """What a training did. ``curve`` has a row a validation: step, tokens, training_loss (None before the first step) and
    validation_nll, in nats a token.
    """

    curve: list[dict[str, float | None]] = field(default_factory=list)
    best_step: int = 0
    best_nll: float = math.inf
    tokens: int = 0
    seconds: float = 0.0


def identity(network: PreTrainedModel, teacher: Teacher | None) -> dict[str, str | None]:
    """Whose weights an unfinished training depends on."""
    return {"base": loading.fingerprint(network), "teacher": None if teacher is None else loading.fingerprint(teacher.network)}


def learning_rate_factor(step: int, spec: TrainingSpec) -> float:
    """The share of the peak learning rate that step ``step`` (from 0) uses."""
    if step < spec.warmup_steps:
        return (step + 1) / (spec.warmup_steps + 1)
    decay_from = spec.warmup_steps if spec.schedule == "linear" else max(spec.warmup_steps, round(0.7 * spec.steps))
    return min(1.0, (spec.steps - step) / max(1, spec.steps - decay_from))


def adamw(module: nn.Module, spec: TrainingSpec) -> list[torch.optim.Optimizer]:
    """The paper's optimizer, over whatever of ``module`` requires a gradient."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return [torch.optim.AdamW(parameters, lr=spec.learning_rate, weight_decay=spec.weight_decay)]


def train(
    module: nn.Module,
    loss: Callable[[Tensor], Tensor],
    batch: Callable[[int], Tensor],
    spec: TrainingSpec,
    *,
    identity: dict[str, Any],
    validate: Callable[[], float],
    checkpoint: Path,
    label: str,
    optimizers: Callable[[nn.Module, TrainingSpec], list[torch.optim.Optimizer]] = adamw,
) -> TrainingRun:
    """Train ``module`` and leave it at the step with the lowest validation NLL.

    ``batch(step)`` are int64 token ids, ``batch_windows`` x window; ``loss`` of some or all of its windows is a scalar, a mean in nats
    a token. ``validate()`` gives the validation NLL of the module as it is; it is asked every ``validate_every`` steps, before the first
    and after the last. A ``checkpoint`` left by a killed run with the same spec and ``identity`` (JSON values: the seed, the base, the
    data) is taken up, also a finished one: it is the caller's to delete, once what was trained is saved. Raises
    :class:`FloatingPointError` when the loss is no longer finite.
    """
    trainable = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
    state = _State(trainable, optimizers(module, spec), spec, identity, checkpoint)
    first = state.resume()
    if first < spec.steps:
        _go_on(state, first, loss, batch, validate, label)
    state.restore_best()
    return state.run


def _go_on(
    state: _State,
    first: int,
    loss: Callable[[Tensor], Tensor],
    batch: Callable[[int], Tensor],
    validate: Callable[[], float],
    label: str,
) -> None:
    """From step ``first`` to the last, under a bar with a rate."""
    spec, run, started = state.spec, state.run, time.perf_counter() - state.run.seconds
    with tqdm(total=spec.steps, initial=first, desc=label, unit="step", mininterval=1.0) as bar:
        for step in range(first, spec.steps):
            if step % spec.validate_every == 0:
                state.record(step, validate())
            windows = batch(step)
            state.step(step, loss, windows)
            run.tokens += windows.numel()
            run.seconds = time.perf_counter() - started
            bar.set_postfix_str(
                f"loss {state.last_loss:.3f}, best {run.best_nll:.4f}, {run.tokens / run.seconds:,.0f} tokens/s", refresh=False
            )
            bar.update()
            if (step + 1) % spec.checkpoint_every == 0 and step + 1 < spec.steps:
                state.save(step + 1)
    state.record(spec.steps, validate())
    run.seconds = time.perf_counter() - started
    state.save(spec.steps)


class _State:
    """All that changes during a training: parameters, optimizers, the best so far, the record."""

    def __init__(
        self,
        trainable: dict[str, nn.Parameter],
        optimizers: list[torch.optim.Optimizer],
        spec: TrainingSpec,
        identity: dict[str, Any],
        path: Path,
    ):
        self.trainable, self.optimizers, self.spec, self.path = trainable, optimizers, spec, path
        # as a checkpoint gives it back: tuples are lists there
        self.identity = json.loads(json.dumps({**asdict(spec), **identity}))
        self.best = {name: parameter.detach().clone() for name, parameter in trainable.items()}
        self.run = TrainingRun()
        self.losses: list[float] = []
        self.last_loss = math.nan
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["peak_lr"] = group["lr"]

    def step(self, step: int, loss: Callable[[Tensor], Tensor], windows: Tensor) -> None:
        self.last_loss = 0.0
        for part in windows.split(self.spec.windows_at_once or len(windows)):
            share = loss(part) * (len(part) / len(windows))
            self.last_loss += share.item()
            if not math.isfinite(self.last_loss):
                raise FloatingPointError(
                    f"the loss is {self.last_loss} at step {step}; lower training.learning_rate ({self.spec.learning_rate})"
                )
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
            self.run.best_step, self.run.best_nll = step, nll
            self.best = {name: parameter.detach().clone() for name, parameter in self.trainable.items()}

    def restore_best(self) -> None:
        with torch.no_grad():
            for name, parameter in self.trainable.items():
                parameter.copy_(self.best[name])

    def save(self, step: int) -> None:
        tensors = {f"now.{name}": parameter for name, parameter in self.trainable.items()}
        tensors |= {f"best.{name}": tensor for name, tensor in self.best.items()}
        for number, optimizer in enumerate(self.optimizers):
            tensors |= pack_optimizer(optimizer, f"optimizer{number}")
        save_state(self.path, tensors, {"step": step, "losses": self.losses, "identity": self.identity, "run": asdict(self.run)})

    def resume(self) -> int:
        """Take up the checkpoint, if there is one of the same training; the step to go on from."""
        if not self.path.exists():
            return 0
        tensors, values = load_state(self.path)
        if values["identity"] != self.identity:
            return 0
        with torch.no_grad():
            for name, parameter in self.trainable.items():
                parameter.copy_(tensors[f"now.{name}"])
                self.best[name] = tensors[f"best.{name}"].to(parameter.device)
        for number, optimizer in enumerate(self.optimizers):
            unpack_optimizer(optimizer, tensors, f"optimizer{number}")
        self.run = TrainingRun(**values["run"])
        self.losses = values["losses"]
        return values["step"]


def save_state(path: Path, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
    """Write ``tensors`` and JSON-able ``values`` to ``path``, replacing what was there in one step."""
    contiguous = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    with paths.replacing(path) as incoming:
        save_file(contiguous, incoming, metadata={"values": json.dumps(values)})


def load_state(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read back what :func:`save_state` wrote. Raises :class:`ValueError` for a damaged file."""
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            return tensors, json.loads((file.metadata() or {})["values"])
    except (SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: not a readable checkpoint ({error}); delete it and run again") from None


def pack_optimizer(optimizer: torch.optim.Optimizer, prefix: str) -> dict[str, Tensor]:
    """The tensors of an optimizer's state, named ``<prefix>.<parameter number>.<state name>``."""
    state = optimizer.state_dict()["state"]
    return {
        f"{prefix}.{number}.{name}": torch.as_tensor(value) for number, entries in state.items() for name, value in entries.items()
    }


def unpack_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], prefix: str) -> None:
    """Put back what :func:`pack_optimizer` took; learning rates are the caller's business."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        if key.startswith(prefix + "."):
            number, name = key.removeprefix(prefix + ".").split(".", 1)
            state.setdefault(int(number), {})[name] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
