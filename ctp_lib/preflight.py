"""Before hours of work: what a model needs, and whether this machine, this text and the model's context have it.

Nothing is loaded. The model is built without data (``FakeTensorMode``: shapes and dtypes alone), and what a training step would keep is
counted on that, tensor by tensor.
"""

from __future__ import annotations

import argparse
import math
import shutil
import sys
from dataclasses import asdict, dataclass

import psutil
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from ctp_lib import models, stepcost, study, texts
from ctp_lib.evaluation.perplexity import BATCH_WINDOWS
from ctp_lib.study import ParameterError, SoftPromptSpec, Study

GIGA = 1e9


@dataclass(frozen=True)
class Needs:
    """Bytes in memory at the peak of each piece of work, the weights among them; ``disk`` for the compressed copies of one model."""

    weights: int
    compress: int
    train: int
    evaluate: int
    disk: int


def check(settings: Study, model: str) -> Needs:
    """Raise :class:`ParameterError`, with what to do, unless ``model`` can be studied here with these settings; else what it needs.

    In turn: its configuration and tokenizer load and fit, its context holds window and prompt, every corpus gives two windows or
    more, and disk and memory suffice.
    """
    spec = settings.model(model)
    tokenizer = models.load_tokenizer(spec)
    config = AutoConfig.from_pretrained(models.folder(spec), trust_remote_code=False)
    with FakeTensorMode():
        network = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, spec.dtype)).eval().requires_grad_(False)
        longest = max(settings.compression.window, settings.evaluation.window + settings.soft_prompt.prompt_tokens)
        models.check_fit(network, tokenizer, longest)
        needed = needs(network, settings)
        _check_memory(network, settings, needed)
    for corpus in settings.corpora.sources:
        for split in ("validation", "test"):
            if len(texts.split_windows(settings, tokenizer, corpus, split, at_most=2)) < 2:
                raise ParameterError(
                    f"{corpus} has fewer than two {split} windows of {settings.evaluation.window} tokens; take more text, or a shorter "
                    "evaluation.window"
                )
    free = shutil.disk_usage(settings.root).free
    if needed.disk > free:
        raise ParameterError(
            f"{model} at all levels takes {_size_of(needed.disk)} on disk, {_size_of(free)} are free; make room, or take fewer levels"
        )
    return needed


def needs(network: PreTrainedModel, settings: Study) -> Needs:
    """What ``network``, real or fake, takes at these settings."""
    weights = sum(weight.numel() * weight.element_size() for weight in network.parameters())
    recipe, window, compression = settings.soft_prompt, settings.evaluation.window, settings.compression
    linear = list(models.compressible(network).values())
    widest = max(module.in_features for module in linear)
    largest = max(module.weight.numel() for module in linear)
    return Needs(
        weights=weights,
        # of one matrix at a time in fp32: its Hessian and that one's factors, the weights, their grid and the errors; of all
        # calibration windows what enters a layer and what leaves it
        compress=weights
        + 4 * (3 * widest**2 + 4 * largest)
        + 2 * compression.windows * compression.window * widest * _size(network),
        train=weights + step_bytes(network, recipe, window, recipe.training.windows_at_once or recipe.training.batch_windows),
        evaluate=weights + 3 * 4 * BATCH_WINDOWS * window * network.config.get_text_config().vocab_size,
        disk=2 * models.parameter_count(network) * (len(settings.levels) - 1),
    )


def step_bytes(network: PreTrainedModel, recipe: SoftPromptSpec, window: int, windows: int) -> int:
    """Bytes beside the weights at the peak of one training step: what is kept for the backward pass, and the logits' gradients."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        batch = torch.zeros(windows, window, dtype=torch.int64)
        kept = stepcost.kept_bytes(stepcost.soft_prompt(network, recipe.prompt_tokens), batch)
    logits = 4 * windows * window * network.config.get_text_config().vocab_size
    return kept + 2 * logits


def _size(network: PreTrainedModel) -> int:
    return next(network.parameters()).element_size()


def available() -> int:
    """Bytes of memory that a model may take where it is computed."""
    device = models.device()
    if device.type == "cuda":
        return torch.cuda.mem_get_info()[0]
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    return psutil.virtual_memory().available


def _check_memory(network: PreTrainedModel, settings: Study, needed: Needs) -> None:
    free = available()
    for work in ("compress", "evaluate"):
        if getattr(needed, work) > free:
            raise ParameterError(
                f"to {work} this model takes {_size_of(getattr(needed, work))} of memory, {_size_of(free)} are free; take a smaller one"
            )
    if needed.train > free:
        fits = largest_batch(network, settings, free - needed.weights)
        todo = (
            f"set soft_prompt.training.windows_at_once to {fits}"
            if fits
            else "set soft_prompt.training.recompute, or take a smaller model"
        )
        raise ParameterError(f"a training step takes {_size_of(needed.train)} of memory, {_size_of(free)} are free; {todo}")


def largest_batch(network: PreTrainedModel, settings: Study, room: int) -> int:
    """The most windows whose training step fits into ``room`` bytes beside the weights; 0 when not even one does."""
    one = step_bytes(network, settings.soft_prompt, settings.evaluation.window, 1)
    two = step_bytes(network, settings.soft_prompt, settings.evaluation.window, 2)
    return max(0, math.floor((room - one) / (two - one)) + 1)


def _size_of(size: float) -> str:
    return f"{size / GIGA:.1f} GB" if size >= GIGA else f"{size / 1e6:.0f} MB"


def main() -> None:
    """``python -m ctp_lib.preflight MODEL``: the whole check, printed."""
    parser = argparse.ArgumentParser(prog="python -m ctp_lib.preflight", description="Can this model be studied here?")
    parser.add_argument("model", help="a name of params.yaml, a folder, or a hub id")
    asked = parser.parse_args()
    try:
        settings = study.load()
        needed = check(settings, asked.model)
    except ParameterError as error:
        sys.exit(str(error))
    print(f"{asked.model}: its tokenizer fits, its context holds window and prompt, the text suffices.")
    for work, size in asdict(needed).items():
        print(f"  {work:9} {_size_of(size):>9}")
    print(
        f"  free      {_size_of(available()):>9} in memory on {models.device()}, {_size_of(shutil.disk_usage(settings.root).free)} on disk"
    )


if __name__ == "__main__":
    main()
