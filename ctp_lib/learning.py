"""What can be learned on a frozen model: a soft prompt, or LoRA. Both go through the one loop, on the same text.

Everything random is a function of the seed and the step: where a prompt starts, which windows a step sees, what dropout drops.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ctp_lib import models, tuning
from ctp_lib.distillation import token_divergence
from ctp_lib.evaluation.perplexity import perplexity
from ctp_lib.likelihood import token_nll
from ctp_lib.prompts import SoftPrompt
from ctp_lib.study import Level, LoraSpec, SoftPromptSpec, Study
from ctp_lib.texts import TrainingText
from ctp_lib.tuning import TrainingRun

if TYPE_CHECKING:
    from peft import PeftModel


def learn_prompt(
    network: PreTrainedModel,
    recipe: SoftPromptSpec,
    text: TrainingText,
    *,
    teacher: PreTrainedModel | None = None,
    seed: int,
    checkpoint: Path,
    label: str,
) -> tuple[SoftPrompt, TrainingRun]:
    """A soft prompt for ``network``, which stays frozen, at the step with the lowest NLL on ``text.validation``.

    The loss is a mean over the real tokens: of their plain next-token NLL, or, with a ``teacher``, of the divergence from what that
    model predicts. The finished ``checkpoint`` is the caller's to delete.
    """
    prompt = SoftPrompt.from_vocabulary(network, recipe.prompt_tokens, recipe.initialisation, seed)
    if recipe.training.recompute:
        models.recompute_activations(network)
    run = tuning.train(
        prompt,
        loss=lambda windows: token_loss(network, windows, prompt(), teacher).mean(),
        batch=text.batch,
        spec=recipe.training,
        identity={"seed": seed, "recipe": asdict(recipe), "text": text.digest, **_identity(network, teacher)},
        validate=lambda: perplexity(network, text.validation, prompt()).nll,
        checkpoint=checkpoint,
        label=label,
    )
    assert all(weight.grad is None for weight in network.parameters()), "the base model must stay frozen"
    return prompt, run


def learn_lora(
    network: PreTrainedModel,
    recipe: LoraSpec,
    text: TrainingText,
    *,
    teacher: PreTrainedModel | None = None,
    seed: int,
    checkpoint: Path,
    label: str,
) -> tuple[PeftModel, TrainingRun]:
    """LoRA matrices on ``network`` by the same loss, at the step that was best on ``text.validation``; see :func:`with_lora`."""
    base = _identity(network, teacher)
    torch.manual_seed(seed)
    adapted = with_lora(network, recipe)

    def batch(step: int) -> Tensor:
        torch.manual_seed(1_000_003 * seed + step)  # of the dropout
        adapted.train()
        return text.batch(step)

    def validate() -> float:
        adapted.eval()
        return perplexity(adapted, text.validation).nll

    run = tuning.train(
        adapted,
        loss=lambda windows: token_loss(adapted, windows, None, teacher).mean(),
        batch=batch,
        spec=recipe.training,
        identity={"seed": seed, "recipe": asdict(recipe), "text": text.digest, **base},
        validate=validate,
        checkpoint=checkpoint,
        label=label,
    )
    return adapted.eval(), run


def teacher(settings: Study, model: str, level: Level) -> PreTrainedModel | None:
    """The uncompressed model, from which whatever is learned at ``level`` is distilled; None where ``soft_prompt.loss`` is plain.

    None too at ``full``: there is nothing above it to learn from, so what is learned there learns from the text, by the plain loss.
    """
    plain = settings.soft_prompt.loss == "next-token" or level.family == "full"
    return None if plain else models.load_model(settings.model(model))


def token_loss(network: PreTrainedModel, windows: Tensor, prompt: Tensor | None, teacher: PreTrainedModel | None) -> Tensor:
    """The loss of every token but the first of each window, fp32, number x (length - 1): its NLL, or its divergence from ``teacher``."""
    return token_nll(network, windows, prompt) if teacher is None else token_divergence(network, windows, prompt, teacher)


def _identity(network: PreTrainedModel, teacher: PreTrainedModel | None) -> dict[str, str | None]:
    """Whose weights a training depends on."""
    return {"base": models.fingerprint(network), "teacher": None if teacher is None else models.fingerprint(teacher)}


def with_lora(network: PreTrainedModel, recipe: LoraSpec) -> PeftModel:
    """``network`` with new LoRA matrices; its own weights stay frozen, and ``unload()`` gives it back.

    Raises :class:`ValueError` when the model has no modules of the names in ``recipe.targets``.
    """
    from peft import LoraConfig, get_peft_model  # slow to import, and only this needs it

    if recipe.training.recompute:
        models.recompute_activations(network)
    config = LoraConfig(
        r=recipe.rank,
        lora_alpha=recipe.alpha,
        lora_dropout=recipe.dropout,
        target_modules=list(recipe.targets),
        task_type="CAUSAL_LM",
    )
    return get_peft_model(network, config)


def sweep(rates: Sequence[float], validation_nll: Callable[[float], float], further: int) -> dict[float, float]:
    """The validation NLL of every learning rate that was tried: ``rates``, and while the best is at an end of them, up to
    ``further`` more beyond that end, by the factor between the two rates there.
    """
    found = {rate: validation_nll(rate) for rate in sorted(rates)}
    for _ in range(further if len(found) > 1 else 0):
        tried, best = sorted(found), min(found, key=found.__getitem__)
        if best == tried[0]:
            beyond = tried[0] * (tried[0] / tried[1])
        elif best == tried[-1]:
            beyond = tried[-1] * (tried[-1] / tried[-2])
        else:
            break
        beyond = float(f"{beyond:.2g}")
        found[beyond] = validation_nll(beyond)
    return found
