"""Before hours of work: what a model needs, and whether this machine, this text and the model's context have it.

Nothing is loaded. The model is built on shapes alone, and a training step and an evaluation are run on it so, counted tensor by tensor.
"""

import argparse
import os
import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import psutil
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from ctp_lib.evaluation.perplexity import windows_at_once
from ctp_lib.machine import memory, step_cost
from ctp_lib.model import loading
from ctp_lib.model.divergence import Teacher, nll_and_divergence
from ctp_lib.model.likelihood import ROWS_AT_ONCE, PromptCache
from ctp_lib.recovery import lora
from ctp_lib.recovery.base import sized
from ctp_lib.results import tables
from ctp_lib.settings import paths, study
from ctp_lib.settings.models import ModelSpec
from ctp_lib.settings.spec import ParameterError, first_line, one_sentence
from ctp_lib.settings.study import Study
from ctp_lib.text import documents, selection

WORKS = ("compress", "evaluate", "soft_prompt", "lora")
"""The pieces of work that memory is checked for."""
COPIES_ON_DISK = 2
"""Of a compressed model: the folder, and DVC's copy in its cache."""
COPIES = 6
"""Matrices as large as a Hessian that a solver holds beside it (its factors), in fp32."""

SHORT_ITEM = 64
"""Tokens of a task's item; the shorter they are, the more of them, each behind a copy of the prompt's keys, are in memory together."""


@dataclass(frozen=True)
class Needs:
    """Bytes: of the weights; by piece of work, in memory at its peak, the weights among them; on disk, for the compressed copies."""

    weights: int
    memory: Mapping[str, int]
    disk: int


def check(settings: Study, model: str, works: Collection[str] = WORKS) -> Needs:
    """What ``model`` needs for ``works``; raise :class:`ParameterError`, with what to do, where it cannot be done here.

    In turn: configuration and tokenizer, the context, two windows of every corpus or more that the model was not trained on, disk, memory.
    """
    spec = settings.model(model)
    tokenizer = loading.load_tokenizer(spec)
    if tokenizer.chat_template:
        loading.as_chat(tokenizer, "hello")
    network = on_shapes(spec)
    _check_compiler(settings)
    prompt = max([settings.soft_prompt.prompt_tokens, *(settings.comparison.prompt_tokens if "lora" in works else [])])
    loading.check_fit(network, tokenizer, max(settings.compression.window, settings.evaluation.window + prompt))
    selection.check_windows(settings, tokenizer)
    documents.check_unread(settings, spec)
    needed = needs(network, settings, works)
    if "compress" in works:
        _check_disk(settings, model, needed)
    _check_memory(network, settings, needed)
    return needed


def _check_compiler(settings: Study) -> None:
    compiler = os.environ.get("CXX", "g++")
    if settings.soft_prompt.training.compile and loading.device(settings.device).type == "cpu" and not shutil.which(compiler):
        raise ParameterError(f"soft_prompt.training.compile needs the C++ compiler {compiler}; install it, or set compile to false")


NOT_COMPRESSED = 0.1
"""The share of the weights of its layers that a model may have outside of linear layers. Mixtures of experts keep most of theirs there."""


def on_shapes(spec: ModelSpec) -> PreTrainedModel:
    """The model of ``spec``, frozen, with shapes and dtypes and no weights."""
    try:
        config = AutoConfig.from_pretrained(loading.folder(spec), trust_remote_code=False)
        loading.check_dense(config, spec.source)
        with memory.shapes_alone():
            network = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, spec.dtype)).eval().requires_grad_(False)
    except ParameterError:
        raise
    except (OSError, ValueError, KeyError) as error:
        raise ParameterError(f"model {spec.source!r} does not load: {first_line(error)}") from None
    linear = loading.compressible(network)
    if not linear:
        lacks = "no linear layers in numbered blocks, as GPT-2's are none (Conv1D); there is nothing to compress"
        raise ParameterError(f"model {spec.source!r} has {lacks}")
    blocks = {name: weight for name, weight in network.named_parameters() if any(part.isdigit() for part in name.split("."))}
    others = {name: weight.numel() for name, weight in blocks.items() if name.rpartition(".")[0] not in linear}
    share = sum(others.values()) / sum(weight.numel() for weight in blocks.values())
    if share > NOT_COMPRESSED:
        largest = max(others, key=others.__getitem__)
        lies = f"{share:.0%} of the weights of its layers lie outside of linear layers, such as {largest}"
        raise ParameterError(
            f"model {spec.source!r}: {lies}; compression would leave them as they are, so take a model without experts"
        )
    return network


def needs(network: PreTrainedModel, settings: Study, works: Collection[str] = WORKS) -> Needs:
    """What ``network``, one :func:`on_shapes`, takes for ``works`` at these settings."""
    weights, windows = sum(weight.nbytes for weight in network.parameters()), settings.soft_prompt.training.at_once
    counted = {
        "compress": [_compress_bytes],
        "evaluate": [_score_bytes, _answer_bytes],
        "soft_prompt": [partial(_step_bytes, windows=windows)],
        "lora": [partial(_lora_bytes, windows=windows)],
    }
    takes = {work: max(memory.whole(network, partial(one, settings=settings)) for one in counted[work]) for work in works}
    copies = len(settings.compressed) - 1  # in 16 bits; none of the uncompressed
    disk = COPIES_ON_DISK * 2 * network.num_parameters() * copies
    return Needs(weights, {work: weights + size for work, size in takes.items()}, disk)


def _compress_bytes(network: PreTrainedModel, settings: Study) -> int:
    """The solver's for one matrix, in fp32; of all calibration windows, what enters a step and leaves it; of a batch, a forward pass."""
    spec, linear = settings.compression, loading.compressible(network).values()
    widest, largest = max(module.in_features for module in linear), max(module.weight.numel() for module in linear)
    batch = torch.zeros(min(spec.windows_at_once, spec.windows), spec.window, dtype=torch.int64)
    solver = 4 * ((1 + COPIES) * widest**2 + 4 * largest)
    passed = 2 * spec.windows * spec.window * widest * next(network.parameters()).element_size()

    def forward() -> None:
        network(inputs_embeds=network.get_input_embeddings()(batch), use_cache=False, logits_to_keep=1)

    return passed + solver + _without_gradients(forward, network)


def _score_bytes(network: PreTrainedModel, settings: Study) -> int:
    """Of windows behind a prompt, with the uncompressed model beside, which has the same shapes."""
    window = settings.evaluation.window
    windows = torch.zeros(windows_at_once(window, loading.device(settings.device)), window, dtype=torch.int64)
    prompt = step_cost.soft_prompt(network, settings.soft_prompt.prompt_tokens).prompt()
    teacher = sum(weight.nbytes for weight in network.parameters())

    def score() -> None:
        nll_and_divergence(network, windows, PromptCache(network, prompt), Teacher(network))

    return _more_logits(network, settings) + teacher + _without_gradients(score, network)


def _answer_bytes(network: PreTrainedModel, settings: Study) -> int:
    """Of a task's items, with the keys and values of all that stands before their answers."""
    window, prompt = settings.evaluation.window, settings.soft_prompt.prompt_tokens
    tokens = window * windows_at_once(window, loading.device(settings.device))
    items = torch.zeros(max(1, tokens // SHORT_ITEM), SHORT_ITEM + prompt, dtype=torch.int64)
    answered = _without_gradients(lambda: network.get_decoder()(input_ids=items, use_cache=True), network)
    return _more_logits(network, settings) + answered


@torch.no_grad()
def _without_gradients(work: Callable[[], object], network: PreTrainedModel) -> int:
    return memory.peak_bytes(work, network.parameters())


def _step_bytes(network: PreTrainedModel, settings: Study, windows: int) -> int:
    recipe = settings.soft_prompt
    with memory.shapes_alone():
        candidate = step_cost.soft_prompt(network, recipe.prompt_tokens, recompute=recipe.training.recompute)
        return _trained(candidate, settings, windows)


def _lora_bytes(network: PreTrainedModel, settings: Study, windows: int) -> int:
    """Of the largest of the study's adapters."""
    found = []
    for point, size in settings.comparison.repairs[lora.METHOD.name].sizes.items():
        spec = sized(settings, lora.METHOD.name, size, rate=1.0)
        try:
            adapted = lora.with_lora(network, spec)
        except ValueError as error:
            why = f"{first_line(error)}; name modules that the model has"
            raise ParameterError(f"comparison.repairs.lora.sizes has {point}: {why}") from None
        memory.drop_data(adapted)
        for module in adapted.modules():  # in training mode, but OPT's decoder, which would draw a number to leave layers out by
            module.training = not hasattr(module, "layerdrop")
        candidate = step_cost.Candidate(adapted, [weight for weight in adapted.parameters() if weight.requires_grad])
        found.append(_trained(candidate, settings, windows))
        adapted.unload().eval()
    return max(found)


def _trained(candidate: step_cost.Candidate, settings: Study, windows: int) -> int:
    """Bytes beside the model's weights at the peak of a training step, with what AdamW remembers between steps."""
    batch = torch.zeros(windows, settings.evaluation.window, dtype=torch.int64)
    optimizer = torch.optim.AdamW(candidate.trainable, lr=0.0)
    trained = sum(weight.nbytes for weight in candidate.trainable)
    own = [*candidate.network.parameters(), *candidate.trainable]
    beside = 3 * trained + _more_logits(candidate.network, settings)
    if settings.soft_prompt.loss == "distillation":  # the uncompressed model has the same shapes
        candidate = replace(candidate, teacher=Teacher(candidate.network))
        beside += sum(weight.nbytes for weight in candidate.network.parameters())
    return beside + memory.peak_bytes(lambda: candidate.step(batch, optimizer), own)


def _more_logits(network: PreTrainedModel, settings: Study) -> int:
    """Bytes of the logits, their probabilities and those of a teacher that a chunk holds here beyond those of a CPU, where the shapes are."""
    rows = ROWS_AT_ONCE[loading.device(settings.device).type] - ROWS_AT_ONCE["cpu"]
    return 4 * 4 * network.get_output_embeddings().weight.shape[0] * rows


def available(settings: Study) -> int:
    """Bytes of memory that a model may take where it is computed."""
    device = loading.device(settings.device)
    if settings.device == loading.SPREAD:
        cards = sum(torch.cuda.mem_get_info(card)[0] for card in range(torch.cuda.device_count()))
        return cards + psutil.virtual_memory().available
    if device.type == "cuda":
        return torch.cuda.mem_get_info()[0]
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    return psutil.virtual_memory().available


def _check_memory(network: PreTrainedModel, settings: Study, needed: Needs) -> None:
    free = available(settings)
    for work, size in needed.memory.items():
        if work == "compress" and loading.device(settings.device).type != "cpu":
            size -= needed.weights  # they stay in main memory and come by layers
        if size <= free:
            continue
        todo = "take a smaller model"
        if work in ("soft_prompt", "lora"):
            step, training = _step_bytes if work == "soft_prompt" else _lora_bytes, settings.soft_prompt.training
            fits = largest_batch(step, network, settings, free - needed.weights)
            if fits:
                todo = f"set soft_prompt.training.windows_at_once to {min(fits, training.batch_windows)}"
            elif not training.recompute:
                todo = f"set soft_prompt.training.recompute, or {todo}"
        raise ParameterError(f"{work} takes {_size(size)} of memory, {_size(free)} are free; {todo}")


def largest_batch(step: Callable[..., int], network: PreTrainedModel, settings: Study, room: int) -> int:
    """The most windows whose ``step``, in bytes beside the weights, fits into ``room``; 0 when not even one does."""
    one, two = (memory.whole(network, partial(step, settings=settings, windows=windows)) for windows in (1, 2))
    return max(0, (room - one) // (two - one) + 1)


def _check_disk(settings: Study, model: str, needed: Needs) -> None:
    """What is compressed already takes no more room."""
    levels = [level for level in settings.compressed if level.family != "full"]
    missing = [level for level in levels if not paths.compressed(settings, model, level).exists()]
    takes, free = needed.disk * len(missing) // len(levels), shutil.disk_usage(settings.root).free
    if takes > free:
        found = f"{model} at {len(missing)} levels takes {_size(takes)} on disk, {_size(free)} are free"
        raise ParameterError(f"{found}; make room, or take fewer levels")


def _size(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def report(settings: Study, model: str) -> str:
    """The whole check of ``model``, as a page of text."""
    spec, free, asked = settings.model(model), available(settings), settings.soft_prompt.training.at_once
    needed = check(settings, model)
    selection.beginnings(settings, loading.load_tokenizer(spec))
    windows = largest_batch(_step_bytes, on_shapes(spec), settings, free - needed.weights)
    sizes = {"weights": needed.weights, **needed.memory, "disk": needed.disk}
    on_disk = _size(shutil.disk_usage(settings.root).free)
    lines = [f"{model}: its tokenizer fits, its context holds window and prompt, the text suffices."]
    lines += [f"  {what:12} {_size(size):>9}" for what, size in sizes.items()]
    lines.append(f"  {'at once':12} {windows:>9} windows at most in a step of a soft prompt; the settings ask for {asked}")
    lines.append(f"  {'free':12} {_size(free):>9} in memory on {loading.device(settings.device)}, {on_disk} on disk")
    return "\n".join(lines)


@one_sentence()
def main() -> None:
    """``python -m ctp_lib.machine.preflight [MODEL]``: the check of one model, or of every model of the study."""
    parser = argparse.ArgumentParser(prog="python -m ctp_lib.machine.preflight", description="Can this model be studied here?")
    parser.add_argument("model", nargs="?", help="a name of params.yaml, a folder, or a hub id; all of the study unless said")
    parser.add_argument("--into", type=Path, help="a file that then says that all is well")
    asked, settings = parser.parse_args(), study.load()
    chosen = [settings.model_called(asked.model)] if asked.model else settings.study.models
    for model in chosen:
        print(report(settings, model))
    if asked.into:
        tables.write_text(f"{', '.join(chosen)} can be studied here", asked.into)


if __name__ == "__main__":
    main()
