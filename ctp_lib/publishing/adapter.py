"""A learned prompt as a folder that a hub takes: a PEFT adapter with a card."""

import shutil
from pathlib import Path
from typing import Any

from ctp_lib.publishing import card
from ctp_lib.recovery import scores
from ctp_lib.recovery.soft_prompt import METHOD as PROMPT
from ctp_lib.recovery.soft_prompt import WEIGHTS_FILE
from ctp_lib.settings import models, paths
from ctp_lib.settings.learning import LOSSES
from ctp_lib.settings.levels import Level
from ctp_lib.settings.spec import ParameterError
from ctp_lib.settings.study import Study

USE = """\
```python
from peft import PeftModel
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained("path/to/the/compressed/model")
model = PeftModel.from_pretrained(model, "path/to/this/folder")
```
It was learned on the base model **compressed to {level}**, and belongs before that one; the files here are the prompt alone."""


def prompt(settings: Study, model: str, level: Level, seed: int) -> Path:
    """Write the prompt of ``model`` at ``level`` learned with ``seed`` as a hub-ready folder, which is returned.

    Raises :class:`ParameterError` when it was not learned yet.
    """
    rows, protocol = described(settings, model, level, seed)
    source = paths.learned(settings, model, level, PROMPT.name, seed)
    goal = settings.root / "published" / f"{models.slug(model)}-{level.slug}-prompt-{seed}"
    about = card.About(settings, model, level, f"A soft prompt for {model} at {level}", "peft", protocol)
    with paths.replacing(goal) as folder:
        folder.mkdir()
        for file in ("adapter_config.json", WEIGHTS_FILE):
            shutil.copy(source / file, folder / file)
        card.write(folder, about, rows, USE.format(level=level))
    return goal


def described(settings: Study, model: str, level: Level, seed: int) -> tuple[list[dict[str, Any]], str]:
    """The scores of a prompt, and how it was learned, in words. Raises :class:`ParameterError` when it was not learned yet."""
    if not (paths.learned(settings, model, level, PROMPT.name, seed) / WEIGHTS_FILE).exists():
        raise ParameterError(
            f"there is no prompt of {model} at {level} with seed {seed}; run notebooks/03_soft_prompt with these first"
        )
    cell = scores.obtain(settings, model, level, PROMPT.name)
    rows = [row for row in cell["perplexity"] if row["seed"] == seed]
    return rows, _protocol(cell["recipe"], rows[0], seed)


def _protocol(recipe: dict[str, Any], row: dict[str, Any], seed: int) -> str:
    training = recipe["training"]
    return (
        f"{recipe['prompt_tokens']} vectors, started from {'the first' if recipe['initialisation'] == 'first' else 'random'} entries of the "
        f"vocabulary, learned for {training['steps']} steps of {training['batch_windows']} windows of {row['window']} tokens of "
        f"*{recipe['corpus']}* (AdamW, learning rate {training['learning_rate']:g}, seed {seed}) by "
        f"{LOSSES[recipe['loss']]}; the step that was best on validation."
    )
