"""Seconds until a soft prompt is as good as PEFT makes it: PEFT's plain loop with the paper's recipe over some minutes, then ours.

PEFT's learning rate is swept at one seed, over a part of the minutes. Ours is the study's own prompt, whose rate was swept too
(``results/benchmarks/search.json``). It gets a tenth of PEFT's minutes, and more only if that does not suffice. Seconds are those of the
steps, without validation, and ours include the uncompressed model's. Every training that is finished is kept, so that a run that is cut goes
on where it was.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks import measure
from benchmarks.prompt_step import labels_of, peft_model
from ctp_lib.evaluation.perplexity import perplexity
from ctp_lib.machine.ceiling import ceiling
from ctp_lib.model.divergence import Teacher, token_loss
from ctp_lib.recovery.bench import Bench
from ctp_lib.recovery.soft_prompt import SoftPrompt
from ctp_lib.recovery.training import adamw, learning_rate_factor
from ctp_lib.results import cells
from ctp_lib.settings import study
from ctp_lib.settings.learning import SoftPromptSpec, TrainingSpec
from ctp_lib.settings.levels import Level
from ctp_lib.text import selection

TITLE = "Time to quality"
GOAL = 10.0
"""How many times sooner ours is to be there."""

SHARES = (0.1, 0.3, 1.0)
"""Of PEFT's minutes, which ours gets in turn, until it is as good."""
VALIDATIONS = 16
Step = Callable[[int], None]
Side = Callable[[SoftPromptSpec, int], tuple[Step, Callable[[], float]]]


def peft(bench: Bench) -> Side:
    """PEFT's prompt tuning in a plain loop: the vectors start from the first tokens of the vocabulary, and the loss is the next token's."""

    def begun(recipe: SoftPromptSpec, seed: int) -> tuple[Step, Callable[[], float]]:
        text = selection.training_text(bench.study, bench.tokenizer, recipe.corpus, recipe.training, seed)
        adapted = peft_model(bench.network, recipe.prompt_tokens)
        vectors = adapted.prompt_encoder["default"].embedding.weight
        update = updates(adapted, recipe.training)

        def step(number: int) -> None:
            windows = text.batch(number).to(bench.network.device)
            adapted(input_ids=windows, labels=labels_of(windows), use_cache=False).loss.backward()
            update(number)

        return step, lambda: perplexity(bench.network, text.validation, vectors.detach()).nll

    return begun


def ours(bench: Bench) -> Side:
    """The study's own prompt. What the uncompressed model predicts is computed anew, as on a user's first training."""

    def begun(recipe: SoftPromptSpec, seed: int) -> tuple[Step, Callable[[], float]]:
        text = selection.training_text(bench.study, bench.tokenizer, recipe.corpus, recipe.training, seed)
        prompt = SoftPrompt.from_vocabulary(bench.network, recipe.prompt_tokens, recipe.initialisation, seed)
        teacher = Teacher(bench.teacher.network, Path(tempfile.mkdtemp())) if recipe.loss == "distillation" else None
        update = updates(prompt, recipe.training)

        def step(number: int) -> None:
            token_loss(bench.network, text.batch(number), prompt(), teacher).mean().backward()
            update(number)

        return step, lambda: perplexity(bench.network, text.validation, prompt().detach()).nll

    return begun


def updates(module: nn.Module, spec: TrainingSpec) -> Step:
    """AdamW as the recipe has it, the same for both sides: with warm-up, decay and a gradient of limited length."""
    trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
    (optimizer,) = adamw(module, spec)

    def update(number: int) -> None:
        nn.utils.clip_grad_norm_(trainable, spec.clip)
        for group in optimizer.param_groups:
            group["lr"] = spec.learning_rate * learning_rate_factor(number, spec)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return update


def learned(side: Side, recipe: SoftPromptSpec, seed: int, label: str) -> list[dict[str, float]]:
    """The curve of one training: seconds of its steps so far, windows, and the validation NLL."""
    training, spent, curve = recipe.training, 0.0, []
    step, validate = side(recipe, seed)
    for number in range(training.steps + 1):
        if number % training.validate_every == 0 or number == training.steps:
            windows = number * training.batch_windows
            curve.append({"seconds": spent, "windows": windows, "validation_nll": validate()})
            print(f"{label}: {spent:6.0f} s, step {number} of {training.steps}, {curve[-1]['validation_nll']:.4f} nats", flush=True)
        if number < training.steps:
            started = time.perf_counter()
            step(number)
            spent += time.perf_counter() - started
    return curve


def within(side: Side, recipe: SoftPromptSpec, seconds: float) -> SoftPromptSpec:
    """``recipe`` over as many steps as fit into ``seconds`` on this machine, by the time of a few."""
    step, _ = side(recipe, 0)
    step(0)
    started = time.perf_counter()
    for number in (1, 2, 3):
        step(number)
    steps = max(VALIDATIONS, round(seconds * 3 / (time.perf_counter() - started)))
    warmup = min(recipe.training.warmup_steps, steps // 10)
    training = replace(recipe.training, steps=steps, warmup_steps=warmup, validate_every=max(1, steps // VALIDATIONS))
    return replace(recipe, training=training)


def reached(curve: list[dict[str, float]], nll: float) -> float | None:
    """Seconds until ``curve`` is first at or below ``nll``; None where it never is."""
    return next((row["seconds"] for row in curve if row["validation_nll"] <= nll), None)


def best(curve: list[dict[str, float]]) -> float:
    """The lowest validation NLL of a curve."""
    return min(row["validation_nll"] for row in curve)


def pairs(record: dict[str, Any]) -> dict[int, tuple[dict[str, Any], dict[str, Any]]]:
    """By seed PEFT's training and the longest of ours, where both are finished."""
    runs, found = record["runs"], {}
    for share in SHARES:
        for label in (label for label in runs if label.startswith(f"ours, {share:.0%}")):
            seed = int(label.split()[-1])
            found[seed] = runs[f"PEFT, seed {seed}"], runs[label]
    return dict(sorted(found.items()))


def wanted(
    bench: Bench, seeds: list[int], rates: list[float], minutes: float, sweep: float, runs: dict[str, Any]
) -> Iterator[tuple[str, SoftPromptSpec, Side, float]]:
    """What is to be trained, in order: what it is called, its recipe, its side, and the seconds it gets. Each is in ``runs`` when the next is
    asked for.
    """
    paper, own = bench.study.prompts_by("paper"), bench.study.soft_prompt
    paper = replace(paper, corpus=own.corpus)
    for rate in rates:
        swept = replace(paper, training=replace(paper.training, learning_rate=rate))
        yield f"PEFT, rate {rate:g}", swept, peft(bench), 60 * sweep
    for seed in seeds:
        yield f"PEFT, seed {seed}", paper, peft(bench), 60 * minutes
        for share in SHARES:
            label = f"ours, {share:.0%} of the time, seed {seed}"
            yield label, own, ours(bench), 60 * minutes * share
            if reached(runs[label]["curve"], best(runs[f"PEFT, seed {seed}"]["curve"])) is not None:
                break


def main() -> None:
    """``python -m benchmarks.time_to_quality [--study smollm2] [--level 75%] [--seeds 0 1 2] [--minutes 30]``."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.time_to_quality", description=f"{TITLE}: ours and PEFT's plain loop."
    )
    parser.add_argument("--study", default="smollm2")
    parser.add_argument("--level", default="75%")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument(
        "--rates", nargs="+", type=float, default=[0.001, 0.01, 0.03, 0.1], help="of PEFT; the paper's is the first"
    )
    parser.add_argument("--minutes", type=float, default=30, help="of each of PEFT's trainings")
    parser.add_argument("--sweep", type=float, default=7.5, help="minutes of each rate that is tried")
    parser.add_argument("--into", type=Path, default=measure.RESULTS, help="the folder of the record")
    asked = parser.parse_args()
    settings, path = study.load(name=asked.study), asked.into / "time_to_quality.json"
    bench = Bench(settings, settings.study.models[0], Level.parse(asked.level))
    name = f"{bench.model}, {bench.level}"
    known = cells.read(path)["shapes"].get(name, {}) if path.exists() else {}
    runs = known.get("runs", {}) if known.get("minutes") == asked.minutes else {}
    for label, recipe, side, seconds in wanted(bench, asked.seeds, asked.rates, asked.minutes, asked.sweep, runs):
        if label not in runs:
            if label.startswith("PEFT, seed"):
                rate = min((best(runs[f"PEFT, rate {rate:g}"]["curve"]), rate) for rate in asked.rates)[1]
                recipe = replace(recipe, training=replace(recipe.training, learning_rate=rate))
            seed = int(label.split()[-1]) if "seed" in label else asked.seeds[0]
            recipe = within(side, recipe, seconds)
            runs[label] = {
                "curve": learned(side, recipe, seed, label),
                "rate": recipe.training.learning_rate,
                "steps": recipe.training.steps,
            }
            found = {"minutes": asked.minutes, "sweep": asked.sweep, "ceiling": ceiling(torch.float32, "cpu"), "runs": runs}
            measure.keep("time_to_quality", TITLE, {name: json.loads(json.dumps(found))}, asked.into)
    for seed, (theirs, own) in pairs({"runs": runs}).items():
        there = best(theirs["curve"])
        print(f"seed {seed}: PEFT {there:.4f} nats after {asked.minutes:g} minutes; ours after {reached(own['curve'], there)} s")


if __name__ == "__main__":
    main()
