"""Candidates for the shape of the reference model: each trained, compressed, and given a prompt, on the same text."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ctp_lib.appendix import small_models
from ctp_lib.compression.base import method_for
from ctp_lib.evaluation.perplexity import bits_per_byte, perplexity
from ctp_lib.model import loading
from ctp_lib.recovery.soft_prompt import METHOD as PROMPT
from ctp_lib.recovery.training import TrainingRun
from ctp_lib.settings import paths
from ctp_lib.settings.levels import Level
from ctp_lib.settings.models import ModelSpec
from ctp_lib.settings.study import Study
from ctp_lib.text import selection, windows
from ctp_lib.text.documents import documents
from ctp_lib.text.selection import ScoredText


@dataclass(frozen=True)
class Text:
    """What every candidate reads: one tokenizer, the training tokens, the calibration windows, the test text."""

    tokenizer: PreTrainedTokenizerBase
    tokens: Tensor
    calibration: Tensor
    scored: ScoredText


def read(settings: Study) -> Text:
    """Train the tokenizer and read the text."""
    train, spec = selection.shuffled_documents(settings, "train"), settings.shape_comparison
    tokenizer = small_models.train_tokenizer(map(str, train), next(iter(spec.shapes.values())))
    scored = selection.scored_texts(settings, tokenizer, of=[spec.prompt.corpus])[spec.prompt.corpus]
    return Text(tokenizer, windows.tokens(train, tokenizer), selection.calibration_windows(settings, tokenizer), scored)


def compare(settings: Study, text: Text, name: str) -> list[dict[str, Any]]:
    """The shape ``name``: a row a level and seed, with what compression costs and what the prompt gives back, nats a token."""
    spec, rows = settings.shape_comparison, []
    model, run = _trained(settings, text, name)
    full = perplexity(model.eval().requires_grad_(False), text.scored.windows)
    shared = {
        "shape": name,
        "parameters": loading.parameter_count(model),
        "tokens": run.tokens,
        "bits_per_byte": bits_per_byte(full, text.scored.bytes_per_token),
    }
    with tempfile.TemporaryDirectory() as saved:
        model.save_pretrained(saved)
        for level in map(Level.parse, spec.levels):
            network = loading.load_model(ModelSpec(saved))
            method_for(level).compress(network, level, text.calibration, settings.compression)
            none = perplexity(network, text.scored.windows).nll
            for seed in spec.prompt.seeds:
                found = {"level": str(level), "seed": seed, "cost_nats": none - full.nll}
                rows.append({**shared, **found, "gain_nats": none - _prompted(settings, text, network, name, level, seed)})
    return rows


def _trained(settings: Study, text: Text, name: str) -> tuple[PreTrainedModel, TrainingRun]:
    """A model of this shape after the comparison's steps."""
    spec = settings.shape_comparison
    model = small_models.new_model(spec.shapes[name], settings.seed)
    held_out = windows.tokens(documents(paths.corpora(settings), spec.prompt.corpus, "validation"), text.tokenizer)
    validation = windows.windows(held_out, model.config.max_position_embeddings, 32)
    training = replace(settings.shipped_models["reference"].training, steps=spec.steps)
    checkpoint = settings.root / "models" / "checkpoints" / f"shape-{name}.safetensors"
    run = small_models.train(model, text.tokens, validation, training, seed=settings.seed, checkpoint=checkpoint, label=name)
    checkpoint.unlink(missing_ok=True)
    return model, run


def _prompted(settings: Study, text: Text, network: PreTrainedModel, name: str, level: Level, seed: int) -> float:
    """NLL of the test with a prompt that was learned for this network."""
    recipe = settings.shape_comparison.prompt
    lesson = selection.training_text(settings, text.tokenizer, recipe.corpus, recipe.training, seed)
    checkpoint, label = (
        settings.root / "models" / "checkpoints" / "shape-prompt.safetensors",
        f"prompt, {name}, {level}, seed {seed}",
    )
    learned = PROMPT.learn(network, lesson, recipe, None, seed, checkpoint=checkpoint, label=label)
    checkpoint.unlink(missing_ok=True)
    return perplexity(network, text.scored.windows, learned.vectors).nll
