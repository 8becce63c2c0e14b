"""A small prompt training that a test can kill: ``python training_script.py FOLDER``."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from conftest import random_windows, small_model

from ctp_lib.evaluation.perplexity import perplexity
from ctp_lib.model.likelihood import token_nll
from ctp_lib.recovery import training
from ctp_lib.recovery.soft_prompt import Prompt, SoftPrompt
from ctp_lib.settings.learning import TrainingSpec
from ctp_lib.settings.models import ModelSpec
from ctp_lib.text import windows as cut

SPEC = TrainingSpec(
    steps=40, batch_windows=2, learning_rate=0.05, warmup_steps=4, validate_every=7, checkpoint_every=5, weight_decay=0.01
)


def learn(folder: Path, pause: float = 0.0) -> training.TrainingRun:
    """Learn and save a prompt; sleeps ``pause`` seconds a step, so that a test can kill it on its way."""
    network = small_model()
    prompt = SoftPrompt.from_vocabulary(network, 4, "sampled", seed=0)
    validation = random_windows(4, 16, seed=9)

    def loss(windows):
        time.sleep(pause)
        return token_nll(network, windows, prompt()).mean()

    run = training.train(
        prompt,
        loss,
        cut.shuffled_batches(random_windows(1, 400, seed=8)[0], 16, SPEC.batch_windows, seed=0),
        SPEC,
        identity={"seed": 0},
        validate=lambda: perplexity(network, validation, prompt()).nll,
        checkpoint=folder / "checkpoint.safetensors",
        label="test",
    )
    Prompt(prompt()).save(folder / "prompt", ModelSpec("base"), network)
    return run


if __name__ == "__main__":
    learn(Path(sys.argv[1]), pause=0.1)
