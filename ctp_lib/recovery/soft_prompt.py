"""The paper's method: vectors before the input, learned by gradient descent through the frozen model (section 3.2).

A prompt is a matrix of ``n`` vectors of the model's width, learned or of given tokens, before the embeddings. Its file is a PEFT adapter.
"""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, Self

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from ctp_lib.evaluation.subject import Subject
from ctp_lib.model.likelihood import PromptCache
from ctp_lib.recovery import kept, training
from ctp_lib.recovery.base import Learned, Method
from ctp_lib.recovery.learning import asked, learn
from ctp_lib.settings.learning import SoftPromptSpec
from ctp_lib.settings.models import ModelSpec
from ctp_lib.settings.spec import ParameterError
from ctp_lib.text.selection import TrainingText

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
    ) -> Self:
        """Start from embeddings of the vocabulary: of the first ``prompt_tokens`` ids (paper), or of ids drawn with ``seed``."""
        embed = model.get_input_embeddings()
        if prompt_tokens > embed.num_embeddings:
            has = f"the vocabulary has {embed.num_embeddings} tokens to start from"
            raise ParameterError(f"soft_prompt.prompt_tokens is {prompt_tokens}; {has}")
        ids = torch.arange(embed.num_embeddings)
        if initialisation == "sampled":
            ids = torch.randperm(len(ids), generator=torch.Generator().manual_seed(seed))
        return cls(embed(ids[:prompt_tokens].to(embed.weight.device)))

    def forward(self) -> Tensor:
        """The prompt itself, n x hidden."""
        return self.prompt_embeddings


class Prompt(Learned):
    """``vectors``: n x hidden, fp32, whether ``trained`` or of given tokens."""

    def __init__(self, vectors: Tensor, run: training.TrainingRun | None = None, *, trained: bool = True):
        self.vectors, self.run = vectors.detach(), run
        self.parameters, self.bytes = vectors.numel() * trained, 4 * vectors.numel()

    @contextmanager
    def on(self, network) -> Iterator[Subject]:
        """The vectors before the input of ``network``."""
        yield Subject(network, self.vectors)

    def save(self, folder, base, network) -> None:
        """Write a PEFT ``PROMPT_TUNING`` adapter: ``adapter_config.json`` and one fp32 tensor in safetensors."""
        from peft import PromptTuningConfig  # slow to import, and only this needs it

        heads, layers = network.config.num_attention_heads, network.config.num_hidden_layers
        sizes = {"token_dim": self.vectors.shape[1], "num_attention_heads": heads, "num_layers": layers}
        self._as_adapter(folder, base, PromptTuningConfig, **sizes)

    def _as_adapter(self, folder: Path, base: ModelSpec, kind: type, **sizes: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        save_file({WEIGHTS_NAME: self.vectors.cpu().float().contiguous()}, folder / WEIGHTS_FILE, metadata={"format": "pt"})
        made = {"base_model_name_or_path": base.source, "revision": base.revision, "num_virtual_tokens": len(self.vectors)}
        kind(task_type="CAUSAL_LM", inference_mode=True, num_transformer_submodules=1, **made, **sizes).save_pretrained(folder)


class PromptTuning(Method):
    """Learned by AdamW, at the step that is best on validation."""

    name, label, colour = "soft_prompt", "compressed + soft prompt", "#d9480f"

    def settings(self, study, own) -> SoftPromptSpec:
        """The section ``soft_prompt``, but for what is ``own``: so a comparison has prompts of other lengths, at other rates."""
        return asked(SoftPromptSpec, study, self.name, own, study.soft_prompt.training.learning_rate, **asdict(study.soft_prompt))

    def learn(self, network, text, settings: SoftPromptSpec, teacher, seed, *, checkpoint, label, **_) -> Prompt:
        """A soft prompt for ``network``, which stays frozen, at the step with the lowest NLL on ``text.validation``."""
        prompt = SoftPrompt.from_vocabulary(network, settings.prompt_tokens, settings.initialisation, seed)
        once = settings.training.batch_windows > 1 and not settings.training.recompute  # its positions are the same for all windows
        before = (lambda: PromptCache(network, prompt(), with_gradient=True)) if once else prompt
        run = learn(prompt, network, text, settings, teacher, seed, prompt=before, checkpoint=checkpoint, label=label)
        assert all(weight.grad is None for weight in network.parameters()), "the base model must stay frozen"
        return Prompt(prompt(), run)

    def load(self, folder, network) -> Prompt:
        """Read an adapter back. Raises :class:`ParameterError` when it is damaged or of another width than ``network``."""
        return Prompt(read(folder, network))


def read(folder: Path, network: PreTrainedModel, width: int | None = None) -> Tensor:
    """The vectors of an adapter, n x hidden (or another ``width``), fp32, where ``network`` lies."""
    vectors = kept.read(folder / WEIGHTS_FILE, "prompt").get(WEIGHTS_NAME, torch.empty(0)).to(network.device)
    width = width or network.get_input_embeddings().weight.shape[1]
    if vectors.ndim != 2 or vectors.shape[1] != width:
        raise ParameterError(f"the prompt in {folder} is {tuple(vectors.shape)}; this model takes n x {width}")
    return vectors


class TokenPrefix(Method):
    """Given tokens before the input: nothing is learned. Such are the controls that a learned prompt has to beat."""

    @abstractmethod
    def ids(self, network: PreTrainedModel, text: TrainingText, settings: Any, seed: int) -> Sequence[int]:
        """Which tokens."""

    def learn(self, network, text, settings, teacher, seed, **_) -> Prompt:
        """Their embeddings in ``network``."""
        ids = torch.tensor(list(self.ids(network, text, settings, seed)), device=network.device)
        return Prompt(network.get_input_embeddings()(ids), trained=False)

    def load(self, folder, network) -> Prompt:
        """Their vectors, as they were embedded."""
        return Prompt(read(folder, network), trained=False)


METHOD = PromptTuning()
