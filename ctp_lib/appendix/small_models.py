"""The embedded reference model: a small Llama and its tokenizer, trained from scratch on the documentation.

It is an ordinary checkpoint of transformers' own classes, as those of a hub are, and ships with the project. This module makes it again.
"""

import math
from collections.abc import Iterable
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import seaborn
import torch
from matplotlib.figure import Figure
from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers.models import BPE
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from ctp_lib.claims import style
from ctp_lib.evaluation.perplexity import perplexity
from ctp_lib.model import loading
from ctp_lib.model.likelihood import token_nll
from ctp_lib.recovery import training
from ctp_lib.settings.experiments import Shape
from ctp_lib.settings.learning import TrainingSpec
from ctp_lib.text import selection, windows

END_OF_TEXT = "<|endoftext|>"
"""Stands after every document; also the beginning-of-sequence and padding token."""


def train_tokenizer(texts: Iterable[str], shape: Shape) -> PreTrainedTokenizerFast:
    """A byte-level BPE of ``shape.vocabulary`` entries; every byte is a token, so no text is out of vocabulary."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=shape.vocabulary,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    special = dict.fromkeys(("bos_token", "eos_token", "pad_token"), END_OF_TEXT)
    sizes = {"model_max_length": shape.context, "clean_up_tokenization_spaces": False}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special, **sizes)


def new_model(shape: Shape, seed: int) -> LlamaForCausalLM:
    """A Llama with tied embeddings and random weights, fp32."""
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        intermediate_size=shape.feed_forward,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        max_position_embeddings=shape.context,
        tie_word_embeddings=True,
        **dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), 0),
    )
    torch.manual_seed(seed)
    return LlamaForCausalLM(config)


def muon_and_adamw(model: nn.Module, spec: TrainingSpec) -> list[torch.optim.Optimizer]:
    """Muon (Jordan et al. 2024) for matrices of layers, scaled to AdamW's updates (Liu et al. 2025), which has the rest, at the same rate."""
    matrices = [weight for name, weight in model.named_parameters() if weight.ndim == 2 and "embed" not in name]
    others = [weight for name, weight in model.named_parameters() if weight.ndim != 2 or "embed" in name]
    return [
        torch.optim.Muon(matrices, lr=spec.learning_rate, weight_decay=spec.weight_decay, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=spec.learning_rate, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def train(
    model: LlamaForCausalLM, tokens: Tensor, validation: Tensor, spec: TrainingSpec, *, seed: int, checkpoint: Path, label: str
) -> training.TrainingRun:
    """Train all of ``model`` on ``tokens`` (int32, one row), in bf16 where the machine has it, and leave it at its best step.

    Windows are as long as the model's context, and so are those of ``validation`` (int64, number x context). Raises
    :class:`ValueError` when the text is too short.
    """

    def loss(batch: Tensor) -> Tensor:
        with torch.autocast(model.device.type, torch.bfloat16, enabled=loading.has_fast_bf16()):
            return token_nll(model, batch).mean()

    config = model.config
    return training.train(
        model,
        loss,
        windows.shuffled_batches(tokens, config.max_position_embeddings, spec.batch_windows, seed),
        spec,
        identity={"seed": seed, "config": config.to_diff_dict(), "text": selection.digest(tokens, validation)},
        validate=lambda: perplexity(model, validation).nll,
        checkpoint=checkpoint,
        label=label,
        optimizers=muon_and_adamw,
    )


def training_curve(curve: list[dict[str, float]], tokens_per_byte: float, *, name: str) -> Figure:
    """The training of the model ``name``: bits per byte on held-out text against million tokens seen."""
    figure, axis = plt.subplots(figsize=(7, 3.6), layout="constrained")
    table = pd.DataFrame(curve, dtype=float)
    seen, bits = table.tokens / 1e6, table[["training_loss", "validation_nll"]] * tokens_per_byte / math.log(2)
    axis.plot(seen, bits.training_loss, color=style.NEUTRAL, label="training")
    axis.plot(seen, bits.validation_nll, color=style.UNCOMPRESSED, label="validation")
    last = bits.validation_nll.iloc[-1]
    axis.annotate(f"{last:.2f}", (seen.iloc[-1], last), xytext=(4, 0), textcoords="offset points", va="center")
    axis.set(xlabel="million tokens seen", ylabel="bits per byte", ylim=(0.9, 2.2), title=f"Training of the {name} model")
    axis.legend(frameon=False)
    seaborn.despine(figure)
    return figure
