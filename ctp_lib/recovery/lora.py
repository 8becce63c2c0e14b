"""LoRA (Hu et al. 2021): a product of two thin matrices beside some of the frozen ones. What the paper compares prompts with."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from ctp_lib.evaluation.subject import Subject
from ctp_lib.model import loading
from ctp_lib.recovery.base import Learned, Method
from ctp_lib.recovery.learning import asked, learn
from ctp_lib.recovery.soft_prompt import WEIGHTS_FILE
from ctp_lib.recovery.training import TrainingRun
from ctp_lib.settings.learning import LoraSpec
from ctp_lib.settings.spec import ParameterError, as_section, require

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel

QUERIES_AND_VALUES = ("q_proj", "v_proj", "query_key_value")
"""By the names of several architectures; each has some of them."""


class Adapter(Learned):
    """``config`` says where the matrices go; ``weights`` are the matrices, by PEFT's names, fp32."""

    def __init__(self, config: LoraConfig, weights: Mapping[str, Tensor], run: TrainingRun | None = None, *, trained: bool = True):
        self.config, self.weights, self.run = config, weights, run
        self.parameters = sum(weight.numel() for weight in weights.values()) * trained
        self.bytes = sum(weight.nbytes for weight in weights.values())

    @contextmanager
    def on(self, network) -> Iterator[Subject]:
        """The network with its matrices beside its own; after the block its own alone."""
        from peft import get_peft_model, set_peft_model_state_dict  # slow to import, and only LoRA needs it

        adapted = get_peft_model(network, dataclasses.replace(self.config, inference_mode=False))
        try:
            set_peft_model_state_dict(adapted, {name: weight.to(network.device) for name, weight in self.weights.items()})
            yield Subject(adapted.eval())
        finally:
            adapted.unload()

    def save(self, folder, base, network) -> None:
        """Write a PEFT ``LORA`` adapter."""
        folder.mkdir(parents=True, exist_ok=True)
        weights = {name: weight.cpu().contiguous() for name, weight in self.weights.items()}
        save_file(weights, folder / WEIGHTS_FILE, metadata={"format": "pt"})
        said = {"base_model_name_or_path": base.source, "revision": base.revision, "inference_mode": True}
        dataclasses.replace(self.config, **said).save_pretrained(folder)


class Lora(Method):
    """Learned as a soft prompt is. Its own settings: ``rank``, ``targets``, ``alpha``, ``dropout``, and of ``training`` what differs."""

    name, label, colour = "lora", "compressed + LoRA", "#1c7ed6"

    def settings(self, study, own) -> LoraSpec:
        """Rank 8 on queries and values (paper) unless said; alpha is the rank. A prompt's learning rate is none for LoRA, so it must be said."""
        field, allowed = f"methods.{self.name}.training", "a section with learning_rate; a prompt's is too high for LoRA"
        rank, training = own.get("rank", 8), as_section(own.get("training"), field)
        require("learning_rate" in training, field, dict(training), allowed)
        require(isinstance(rank, int), f"methods.{self.name}.rank", rank, "a whole number")
        usual = {"rank": rank, "alpha": float(rank), "targets": QUERIES_AND_VALUES}
        return asked(LoraSpec, study, self.name, own, training["learning_rate"], **usual)

    def learn(self, network, text, settings: LoraSpec, teacher, seed, *, checkpoint, label, **_) -> Adapter:
        """LoRA matrices on ``network`` by the soft prompt's loss, at the step that was best on ``text.validation``."""
        from peft import get_peft_model_state_dict

        torch.manual_seed(seed)
        adapted = with_lora(network, settings)

        def batch(step: int) -> Tensor:
            torch.manual_seed(1_000_003 * seed + step)  # of the dropout
            adapted.eval()  # OPT has dropout of its own, which a prompt is learned without: LoRA's alone is on
            for name, module in adapted.named_modules():
                if name.endswith("lora_dropout"):
                    module.train()
            return text.batch(step)

        try:
            read = dataclasses.replace(text, batch=batch)
            run = learn(adapted, adapted, read, settings, teacher, seed, checkpoint=checkpoint, label=label)
            weights = {name: weight.detach().clone() for name, weight in get_peft_model_state_dict(adapted).items()}
            return Adapter(adapted.peft_config["default"], weights, run)
        finally:
            adapted.unload().eval()

    def load(self, folder, network) -> Adapter:
        """Read it back."""
        return read_adapter(folder)


def read_adapter(folder: Path, *, trained: bool = True) -> Adapter:
    """An adapter as it was saved. Raises :class:`ParameterError` when it is damaged."""
    from peft import LoraConfig

    try:  # not by PEFT's own reading, which goes on to pickles and to the hub
        return Adapter(LoraConfig.from_pretrained(folder), load_file(folder / WEIGHTS_FILE), trained=trained)
    except (OSError, ValueError, SafetensorError) as error:
        raise ParameterError(f"{folder} is not a readable LoRA ({error}); train it again") from None


def with_lora(network: PreTrainedModel, recipe: LoraSpec) -> PeftModel:
    """``network``, frozen, with new LoRA matrices, until ``unload()``. Raises :class:`ValueError` when it has none of ``recipe.targets``."""
    from peft import LoraConfig, get_peft_model

    if recipe.training.recompute:
        loading.recompute_activations(network)
    sizes = {"r": recipe.rank, "lora_alpha": recipe.alpha, "lora_dropout": recipe.dropout}
    return get_peft_model(network, LoraConfig(**sizes, target_modules=list(recipe.targets), task_type="CAUSAL_LM"))


METHOD = Lora()
