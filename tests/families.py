"""A small model of every family that people come with, and tokenizers with the habits of each."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from tokenizers.processors import TemplateProcessing
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
)

from ctp_lib.appendix import small_models
from ctp_lib.settings.experiments import Shape

VOCABULARY, CONTEXT = 300, 192
COMMON = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
    "max_position_embeddings": CONTEXT, "initializer_range": 0.2, "bos_token_id": 1, "eos_token_id": 0, "pad_token_id": 2,
}  # fmt: skip
BLOOM = {"vocab_size": VOCABULARY, "hidden_size": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.2, "pad_token_id": 2}
GEMMA = COMMON | {"head_dim": 8, "num_key_value_heads": 2, "initializer_range": 0.1}

FAMILIES: dict[str, PretrainedConfig] = {
    "llama": LlamaConfig(**COMMON, num_key_value_heads=2),  # rotary positions, grouped queries, untied head
    "mistral": MistralConfig(**COMMON, num_key_value_heads=2, sliding_window=16),
    "qwen3": Qwen3Config(**COMMON, num_key_value_heads=2, head_dim=8, tie_word_embeddings=True),  # norms on queries and keys
    "opt": OPTConfig(**COMMON, ffn_dim=48, word_embed_proj_dim=16, init_std=0.2),  # learned positions, biases, narrow embeddings
    "bloom": BloomConfig(**BLOOM, bos_token_id=1, eos_token_id=0),  # ALiBi, a norm on the embeddings
    "gpt_neox": GPTNeoXConfig(**COMMON, rotary_pct=0.25),  # parallel residuals, rotary on a quarter
    "gemma2": Gemma2Config(**GEMMA, final_logit_softcapping=5.0, sliding_window=16),  # scaled embeddings, capped logits
    "gemma3": Gemma3TextConfig(**GEMMA, sliding_window=16),  # embeddings scaled by their own layer
}


def model(family: str, seed: int = 0) -> PreTrainedModel:
    """A frozen model of ``family`` with random weights."""
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(copy.deepcopy(FAMILIES[family])).eval().requires_grad_(False)


def tokenizer(family: str) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer of 300 tokens; those of LLaMA and Gemma put their first token before every text."""
    shape = Shape(layers=1, width=32, heads=2, feed_forward=48, vocabulary=VOCABULARY, context=CONTEXT)
    made = small_models.train_tokenizer(["Return the sum of the elements of an array.", "The axis is wrong."] * 20, shape)
    if family in ("llama", "gemma2"):
        made.backend_tokenizer.post_processor = TemplateProcessing(
            single=f"{made.eos_token} $A", special_tokens=[(made.eos_token, made.eos_token_id)]
        )
    return made


def save(family: str, folder: Path, seed: int = 0) -> None:
    """A repository of the family: configuration, tokenizer, weights."""
    model(family, seed).save_pretrained(folder)
    tokenizer(family).save_pretrained(folder)
