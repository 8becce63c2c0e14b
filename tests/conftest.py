"""Small things that are quick to make: a tokenizer, models with random weights, a project folder."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import hub

FOLDER = tempfile.TemporaryDirectory()
(Path(FOLDER.name) / "hub").mkdir()
HUB = hub.start(Path(FOLDER.name) / "hub")
os.environ |= {"DVC_NO_ANALYTICS": "1", "HF_ENDPOINT": HUB.url, "HF_HOME": str(Path(FOLDER.name) / "cache")}  # before imports

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from ctp_lib.appendix import small_models
from ctp_lib.compression.base import method_for
from ctp_lib.recovery.soft_prompt import METHOD as PROMPT
from ctp_lib.recovery.soft_prompt import SoftPrompt
from ctp_lib.settings.experiments import Shape

ROOT = Path(__file__).parent.parent

SHAPE = Shape(layers=2, width=32, heads=2, feed_forward=48, vocabulary=300, context=64)


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def tokenizer():
    return small_models.train_tokenizer(
        ["Return the sum of the elements of an array.", "Raise an error when the axis is wrong."] * 20, SHAPE
    )


@pytest.fixture
def model() -> LlamaForCausalLM:
    return small_model()


def small_model(layers: int = 2, seed: int = 0, context: int = 128, kind: type = LlamaConfig, **changes) -> PreTrainedModel:
    """A frozen model, a Llama unless said, whose random weights are large enough for its predictions to differ from uniform."""
    config = kind(
        vocab_size=300, hidden_size=32, intermediate_size=48, num_hidden_layers=layers, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=context, initializer_range=0.2, bos_token_id=0, eos_token_id=0, **changes,
    )  # fmt: skip
    torch.manual_seed(seed)
    network = AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    network.config.save_pretrained(FOLDER.name)  # llmcompressor looks the configuration up where the model came from
    network.config.name_or_path = FOLDER.name
    return network


def random_windows(number: int, length: int, seed: int = 0, vocabulary: int = 300) -> torch.Tensor:
    return torch.randint(vocabulary, (number, length), generator=torch.Generator().manual_seed(seed))


def compress(network, level, windows, spec) -> PreTrainedModel:
    """``network`` at ``level``, by the method that does it."""
    return method_for(level).compress(network, level, windows, spec, None)


def learn_prompt(network, recipe, text, *, teacher=None, seed, checkpoint, label="t"):
    """A soft prompt as a module, and how its training went."""
    learned = PROMPT.learn(network, text, recipe, teacher, seed, checkpoint=checkpoint, label=label)
    return SoftPrompt(learned.vectors), learned.run
