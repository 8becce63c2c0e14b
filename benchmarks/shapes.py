"""The models that are measured: made on the spot, with random weights, in the shapes that people use."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, OPTConfig, PretrainedConfig, PreTrainedModel


@dataclass(frozen=True)
class Shape:
    """A model's configuration, how it is computed, and the work that fits it: windows of ``length`` tokens behind a prompt of ``prompt``
    vectors, ``batch`` of them in a step.
    """

    config: PretrainedConfig
    length: int
    prompt: int
    batch: int
    dtype: torch.dtype = torch.float32
    device: str = "cpu"

    @property
    def positions(self) -> int:
        """Of a window and the prompt before it."""
        return self.length + self.prompt

    def model(self) -> PreTrainedModel:
        """A frozen model of this shape, the same each time."""
        torch.manual_seed(0)
        with torch.device(self.device):
            model = AutoModelForCausalLM.from_config(copy.deepcopy(self.config), dtype=self.dtype)
        return model.eval().requires_grad_(False)

    def windows(self, number: int | None = None) -> torch.Tensor:
        """Token ids, int64, ``batch`` or ``number`` x length, drawn with a fixed seed."""
        draw = torch.Generator().manual_seed(0)
        return torch.randint(3, self.config.vocab_size, (number or self.batch, self.length), generator=draw)


def _llama(layers: int, width: int, heads: int, feed_forward: int, vocabulary: int, context: int, keys: int = 0) -> LlamaConfig:
    return LlamaConfig(
        num_hidden_layers=layers, hidden_size=width, num_attention_heads=heads, num_key_value_heads=keys or heads,
        intermediate_size=feed_forward, vocab_size=vocabulary, max_position_embeddings=context, tie_word_embeddings=keys > 0,
    )  # fmt: skip


SHAPES = {
    "toy": Shape(_llama(2, 32, 2, 64, 300, 128), length=24, prompt=5, batch=2),
    "embedded": Shape(_llama(4, 256, 4, 704, 4096, 384), length=256, prompt=100, batch=1),  # the study's own
    "opt-125m": Shape(OPTConfig(dropout=0.0), length=1024, prompt=100, batch=1),
    "llama-160m": Shape(_llama(12, 768, 12, 3072, 32000, 2048), length=1024, prompt=100, batch=1),
    "smollm2": Shape(_llama(30, 576, 9, 1536, 49152, 2048, keys=3), length=256, prompt=50, batch=1),  # the real model's
    "llama-7b": Shape(
        _llama(32, 4096, 32, 11008, 32000, 2048), length=1024, prompt=100, batch=4, dtype=torch.bfloat16, device="cuda"
    ),
}


def matrix_weights(model: PreTrainedModel) -> tuple[int, int]:
    """Weights of the matrices inside ``model``, and of its head."""
    head = model.get_output_embeddings().weight.numel()
    return sum(module.weight.numel() for module in model.modules() if isinstance(module, torch.nn.Linear)) - head, head


def forward_flops(model: PreTrainedModel, shape: Shape, windows: int, prompts: int | None = None) -> tuple[float, float]:
    """Floating-point operations of a forward pass over ``windows`` windows: of the matrices, two for every weight that a position goes
    through, where the head sees the real tokens alone; and of causal attention. The prompt goes through ``prompts`` times, by default
    before every window.
    """
    prompts = windows if prompts is None else prompts
    inner, head = matrix_weights(model)
    pairs = windows * (shape.length**2 / 2 + shape.length * shape.prompt) + prompts * shape.prompt**2 / 2
    matrices = 2 * (inner * (windows * shape.length + prompts * shape.prompt) + head * windows * shape.length)
    return matrices, 4 * model.config.num_hidden_layers * model.config.hidden_size * pairs
