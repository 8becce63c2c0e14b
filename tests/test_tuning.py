"""The training loop: AdamW as PyTorch's, the best step kept, the base untouched, the same bytes again and after a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import random_windows, small_model
from torch import nn
from training_script import SPEC, learn

from ctp_lib.appendix import small_models
from ctp_lib.model.likelihood import token_nll
from ctp_lib.recovery import training
from ctp_lib.recovery.soft_prompt import WEIGHTS_FILE, SoftPrompt
from ctp_lib.results import tensor_file
from ctp_lib.settings.learning import TrainingSpec
from ctp_lib.text import windows


@pytest.fixture
def asked(monkeypatch) -> list[int]:
    """The steps whose batches a training asks for."""
    steps: list[int] = []
    plain = windows.shuffled_batches

    def recording(*arguments, **named):
        batch = plain(*arguments, **named)
        return lambda step: steps.append(step) or batch(step)

    monkeypatch.setattr(windows, "shuffled_batches", recording)
    return steps


def adapter(folder: Path) -> bytes:
    return (folder / "prompt" / WEIGHTS_FILE).read_bytes()


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    first, second = learn(tmp_path / "one"), learn(tmp_path / "two")
    assert adapter(tmp_path / "one") == adapter(tmp_path / "two")
    assert first.curve == second.curve


def test_a_run_killed_in_the_middle_goes_on_to_the_same_bytes(tmp_path, asked):
    whole = learn(tmp_path / "whole")
    killed = tmp_path / "killed"
    command = [sys.executable, str(Path(__file__).parent / "training_script.py"), str(killed)]
    process = subprocess.Popen(command, env=dict(os.environ), stderr=subprocess.DEVNULL)
    deadline = time.time() + 120
    while not (killed / "checkpoint.safetensors").exists():
        assert process.poll() is None and time.time() < deadline, "the run ended or hung before its first checkpoint"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (killed / "prompt").exists(), "it was to be killed before the end"
    reached = tensor_file.load(killed / "checkpoint.safetensors")[1]["step"]
    asked.clear()
    resumed = learn(killed)
    assert asked == list(range(reached, SPEC.steps)) and 0 < reached < SPEC.steps
    assert adapter(killed) == adapter(tmp_path / "whole")
    assert resumed.curve == whole.curve and resumed.tokens == whole.tokens


def test_muon_resumes_to_the_same_weights(tmp_path):
    def weights(folder: Path, stop_at: int | None) -> torch.Tensor:
        network = small_model(layers=1).requires_grad_(True)

        def loss(windows):
            return token_nll(network, windows).mean()

        def batch(step):
            if step == stop_at:
                raise KeyboardInterrupt
            return random_windows(2, 16, seed=step)

        spec = TrainingSpec(steps=6, batch_windows=2, learning_rate=0.01, warmup_steps=1, validate_every=6, checkpoint_every=2)
        training.train(
            network, loss, batch, spec, identity={}, validate=lambda: 0.0, checkpoint=folder / "c", label="t",
            optimizers=small_models.muon_and_adamw,
        )  # fmt: skip
        return tensor_file.load(folder / "c")[0]["now.model.layers.0.mlp.up_proj.weight"]

    with pytest.raises(KeyboardInterrupt):
        weights(tmp_path / "cut", stop_at=3)
    assert torch.equal(weights(tmp_path / "cut", None), weights(tmp_path / "whole", None))


def test_a_finished_training_is_not_done_again(tmp_path, asked):
    first = learn(tmp_path)
    bytes_before = adapter(tmp_path)
    (tmp_path / "prompt" / WEIGHTS_FILE).unlink()
    asked.clear()
    again = learn(tmp_path)
    assert asked == [] and adapter(tmp_path) == bytes_before
    assert again.best_step == first.best_step and len(again.curve) == len(first.curve)


def test_a_checkpoint_of_another_training_is_not_taken_up(tmp_path, asked):
    foreign = {"step": 35, "losses": [], "identity": {"seed": 1}, "run": {}}
    tensor_file.save(tmp_path / "checkpoint.safetensors", {"now.prompt_embeddings": torch.zeros(4, 32)}, foreign)
    learn(tmp_path)
    assert asked == list(range(SPEC.steps))


def test_a_torn_checkpoint_is_said_to_be_torn(tmp_path):
    (tmp_path / "checkpoint.safetensors").write_bytes(b"torn")
    with pytest.raises(ValueError, match="delete it and run again"):
        learn(tmp_path)


def test_checkpoints_keep_tensors_and_values(tmp_path):
    path = tmp_path / "deep" / "c.safetensors"
    tensor_file.save(path, {"a": torch.arange(3)}, {"b": [1.5, None]})
    tensors, values = tensor_file.load(path)
    assert tensors["a"].tolist() == [0, 1, 2] and values == {"b": [1.5, None]}


def quadratic(spec: TrainingSpec, path: Path, start: float = 3.0) -> tuple[nn.Linear, training.TrainingRun]:
    """Minimise (w - 1)^2 from ``start``; validation prefers w = 2, which is passed on the way."""
    module = nn.Linear(1, 1, bias=False)
    module.weight.data.fill_(start)
    run = training.train(
        module,
        loss=lambda _: (module.weight - 1).square().sum(),
        batch=lambda step: torch.zeros(1, 1, dtype=torch.long),
        spec=spec,
        identity={},
        validate=lambda: (module.weight.item() - 2) ** 2,
        checkpoint=path,
        label="test",
    )
    return module, run


def test_the_step_with_the_lowest_validation_loss_is_kept(tmp_path):
    spec = TrainingSpec(steps=60, batch_windows=1, learning_rate=0.1, warmup_steps=0, validate_every=5)
    module, run = quadratic(spec, tmp_path / "c")
    best = min(run.curve, key=lambda row: row["validation_nll"])
    assert 0 < run.best_step < 60 and run.best_step == best["step"]
    assert (module.weight.item() - 2) ** 2 == pytest.approx(run.best_nll, rel=1e-6)
    assert [row["step"] for row in run.curve] == list(range(0, 61, 5))


def test_the_updates_are_those_of_adamw_with_clipping(tmp_path):
    spec = TrainingSpec(steps=8, batch_windows=1, learning_rate=0.1, warmup_steps=2, validate_every=8, weight_decay=0.1, clip=0.5)
    weight = torch.tensor([[3.0]], dtype=torch.float64)
    m = v = 0.0
    for step in range(8):  # AdamW as in Loshchilov & Hutter, algorithm 2
        gradient = 2 * (weight.item() - 1)
        gradient *= min(1.0, spec.clip / (abs(gradient) + 1e-6))
        rate = 0.1 * [1 / 3, 2 / 3, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6][step]
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        weight -= rate * spec.weight_decay * weight
        weight -= rate * (m / (1 - 0.9 ** (step + 1))) / ((v / (1 - 0.999 ** (step + 1))) ** 0.5 + 1e-8)
    module, _ = quadratic(spec, tmp_path / "c")
    assert module.weight.item() == pytest.approx(weight.item(), rel=1e-5)


def test_the_trapezoid_holds_and_then_falls():
    spec = TrainingSpec(steps=100, batch_windows=1, learning_rate=1, warmup_steps=10, validate_every=1, schedule="trapezoid")
    factors = [training.learning_rate_factor(step, spec) for step in range(100)]
    assert factors[10:71] == [1.0] * 61 and factors[0] == pytest.approx(1 / 11)
    assert factors[85] == pytest.approx(0.5) and factors[99] == pytest.approx(1 / 30)


def test_the_base_gets_no_gradient():
    network = small_model()
    prompt = SoftPrompt.from_vocabulary(network, 4, "first", seed=0)
    token_nll(network, torch.ones(2, 8, dtype=torch.long), prompt()).mean().backward()
    assert prompt.prompt_embeddings.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_loss_that_is_not_finite_stops_with_a_sentence(tmp_path):
    module = nn.Linear(1, 1)
    spec = TrainingSpec(steps=3, batch_windows=1, learning_rate=0.1, warmup_steps=0, validate_every=1)
    with pytest.raises(FloatingPointError, match=r"the loss is nan at step 0; lower training.learning_rate"):
        training.train(
            module,
            lambda _: module.weight.sum() * float("nan"),
            lambda step: torch.zeros(1, 1),
            spec,
            identity={},
            validate=lambda: 0.0,
            checkpoint=tmp_path / "c",
            label="test",
        )
