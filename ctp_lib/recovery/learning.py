"""How methods learn: a part of a network, or what stands before its input, by the study's loss, at the step that is best on validation."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor, nn
from transformers import Cache, PreTrainedModel

from ctp_lib.evaluation.perplexity import perplexity
from ctp_lib.model import loading
from ctp_lib.model.divergence import Teacher, token_loss
from ctp_lib.recovery import training
from ctp_lib.settings.spec import as_section
from ctp_lib.settings.study import Study, with_settings
from ctp_lib.text.selection import TrainingText

Kind = TypeVar("Kind")


def learn(
    module: nn.Module,
    network: PreTrainedModel,
    text: TrainingText,
    settings: Any,
    teacher: Teacher | None,
    seed: int,
    *,
    checkpoint: Path,
    label: str,
    prompt: Callable[[], Tensor | Cache | None] = lambda: None,
    optimizers: Callable[..., training.Optimizers] = training.adamw,
) -> training.TrainingRun:
    """Train what is trainable of ``module``, a part of ``network`` or what ``prompt`` gives, with ``settings``, which have a ``training``."""
    made_by = {"seed": seed, "recipe": asdict(settings), "text": text.digest, "base": loading.fingerprint(network)}
    made_by["teacher"] = None if teacher is None else loading.fingerprint(teacher.network)
    if settings.training.recompute:
        loading.recompute_activations(network)
    with loading.compiled(network) if settings.training.compile else nullcontext():
        return training.train(
            module,
            loss=lambda windows: token_loss(network, windows, prompt(), teacher).mean(),
            batch=text.batch,
            spec=settings.training,
            identity=made_by,
            validate=lambda: perplexity(network.eval(), text.validation, prompt()).nll,
            checkpoint=checkpoint,
            label=label,
            optimizers=optimizers,
        )


def asked(kind: type[Kind], study: Study, name: str, own: Mapping[str, Any], rate: float, **usual: Any) -> Kind:
    """The settings, of a ``kind``, that method ``name`` learns with: its ``own``, else the ``usual``, and as soft prompts do but at ``rate``.

    Raises :class:`ParameterError` where they are wrong.
    """
    said = as_section(own.get("training"), f"methods.{name}.training")
    trained = {**asdict(study.soft_prompt.training), "learning_rate": rate, **said}
    return with_settings(kind, {"loss": study.soft_prompt.loss, **usual, **own, "training": trained}, f"methods.{name}.")
