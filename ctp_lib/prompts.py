"""Prompts in front of a frozen model, soft and hard, and files that PEFT opens.

A prompt is a matrix of ``n`` vectors of the model's width, put before the embeddings of the real tokens. Whether its rows were
learned or belong to real tokens, everything from here on treats it alike.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ctp_lib.study import ModelSpec, ParameterError

WEIGHTS_FILE = "adapter_model.safetensors"
WEIGHTS_NAME = "prompt_embeddings"


class SoftPrompt(nn.Module):
    """``prompt_embeddings``: n x hidden, fp32, trainable."""

    def __init__(self, vectors: Tensor):
        super().__init__()
        self.prompt_embeddings = nn.Parameter(vectors.detach().clone().float())

    @classmethod
    def from_vocabulary(
        cls, model: PreTrainedModel, prompt_tokens: int, initialisation: Literal["first", "sampled"], seed: int
    ) -> SoftPrompt:
        """Start from embeddings of the vocabulary: of the first ``prompt_tokens`` ids (paper), or of ids drawn with ``seed``."""
        embed = model.get_input_embeddings()
        if prompt_tokens > embed.num_embeddings:
            raise ParameterError(
                f"soft_prompt.prompt_tokens is {prompt_tokens}; the vocabulary has {embed.num_embeddings} tokens to start from"
            )
        ids = torch.arange(embed.num_embeddings)
        if initialisation == "sampled":
            ids = torch.randperm(len(ids), generator=torch.Generator().manual_seed(seed))
        return cls(embed(ids[:prompt_tokens].to(embed.weight.device)))

    def forward(self) -> Tensor:
        """The prompt itself, n x hidden."""
        return self.prompt_embeddings


def vocabulary(model: PreTrainedModel) -> Tensor:
    """The embedding of every token as it enters the model, vocabulary x hidden; some models scale theirs on the way."""
    embed = model.get_input_embeddings()
    return embed(torch.arange(embed.num_embeddings, device=embed.weight.device)).detach()


def hard_prompt(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, text: str, like: str | None = None) -> Tensor:
    """The embeddings of a written prompt and the blank line after it, n x hidden.

    With ``like``, ``text`` is cut or repeated to as many tokens as ``like`` has: a control that differs in its words alone.
    """
    ids = _ids(tokenizer, text)
    if like is not None:
        length = len(_ids(tokenizer, like))
        ids = (ids * -(-length // len(ids)))[:length]
    ids += _ids(tokenizer, "\n\n")
    return model.get_input_embeddings()(torch.tensor(ids, device=model.device)).detach()


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def save(prompt: SoftPrompt, folder: Path, base: ModelSpec, model: PreTrainedModel) -> None:
    """Write a PEFT ``PROMPT_TUNING`` adapter: ``adapter_config.json`` and one fp32 tensor in safetensors."""
    from peft import PromptTuningConfig, TaskType  # slow to import, and only this needs it

    vectors = prompt.prompt_embeddings.detach().cpu().float().contiguous()
    folder.mkdir(parents=True, exist_ok=True)
    save_file({WEIGHTS_NAME: vectors}, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    PromptTuningConfig(
        task_type=TaskType.CAUSAL_LM,
        base_model_name_or_path=base.source,
        revision=base.revision,
        inference_mode=True,
        num_virtual_tokens=vectors.shape[0],
        token_dim=vectors.shape[1],
        num_transformer_submodules=1,
        num_attention_heads=model.config.num_attention_heads,
        num_layers=model.config.num_hidden_layers,
    ).save_pretrained(folder)


def load(folder: Path, model: PreTrainedModel) -> SoftPrompt:
    """Read an adapter back. Raises :class:`ParameterError` when it is damaged or of another width than ``model``."""
    try:
        vectors = load_file(folder / WEIGHTS_FILE, device=str(model.device))[WEIGHTS_NAME]
    except (OSError, SafetensorError, KeyError) as error:
        raise ParameterError(f"{folder / WEIGHTS_FILE} is not a readable prompt ({error}); train it again") from None
    width = model.get_input_embeddings().weight.shape[1]
    if vectors.ndim != 2 or vectors.shape[1] != width:
        raise ParameterError(f"the prompt in {folder} is {tuple(vectors.shape)}; this model takes n x {width}")
    return SoftPrompt(vectors)
