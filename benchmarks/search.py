"""How a prompt is best learned on the study's first model: two losses and two starts at several rates, then several lengths, on validation.

A study's own settings are where it starts. Every training that is finished is kept, so that a run that is cut goes on where it was.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks import measure
from ctp_lib.recovery.bench import Bench
from ctp_lib.recovery.soft_prompt import METHOD as PROMPT
from ctp_lib.results import cells
from ctp_lib.settings import models, study
from ctp_lib.settings.learning import SoftPromptSpec
from ctp_lib.settings.levels import Level
from ctp_lib.text import selection


def asked_of(recipe: SoftPromptSpec) -> dict[str, Any]:
    """What is searched, of a recipe."""
    rate = recipe.training.learning_rate
    return {"vectors": recipe.prompt_tokens, "rate": rate, "loss": recipe.loss, "start": recipe.initialisation}


def tried(bench: Bench, recipe: SoftPromptSpec) -> dict[str, Any]:
    """The row of one prompt: what it was learned by, and its validation NLL over steps."""
    settings, seed = bench.study, bench.study.soft_prompt.seeds[0]
    text = selection.training_text(settings, bench.tokenizer, recipe.corpus, recipe.training, seed)
    about = asked_of(recipe)
    label = ", ".join(f"{name} {value}" for name, value in about.items())
    name = models.slug(f"search-{bench.level.slug}-{'-'.join(map(str, about.values()))}")
    checkpoint = settings.root / "models" / "checkpoints" / f"{name}.safetensors"
    teacher = bench.teacher if recipe.loss == "distillation" else None
    run = PROMPT.learn(bench.network, text, recipe, teacher, seed, checkpoint=checkpoint, label=f"{label}, {bench.level}").run
    checkpoint.unlink(missing_ok=True)
    return {**about, "validation_nll": run.best_nll, "curve": run.curve}


def search(
    bench: Bench, rows: list[dict[str, Any]], rates: list[float], lengths: list[int], keep: Callable[[], None]
) -> SoftPromptSpec:
    """The best of both losses and starts at all ``rates``, and with these the best of ``lengths``. ``rows`` grows, and ``keep`` is told."""

    def best_of(recipes: list[SoftPromptSpec]) -> SoftPromptSpec:
        found = []
        for recipe in recipes:
            asked = asked_of(recipe)
            known = [row for row in rows if asked.items() <= row.items()]
            if not known:
                known = [json.loads(json.dumps(tried(bench, recipe)))]
                rows.extend(known)
                keep()
            found.append(known[0]["validation_nll"])
        return recipes[found.index(min(found))]

    recipe = bench.study.soft_prompt
    at = [replace(recipe.training, learning_rate=rate) for rate in rates]
    ways = product(("next-token", "distillation"), ("sampled", "first"), at)
    best = best_of([replace(recipe, loss=loss, initialisation=start, training=training) for loss, start, training in ways])
    return best_of([replace(best, prompt_tokens=length) for length in (best.prompt_tokens, *lengths)])


def main() -> None:
    """``python -m benchmarks.search [--level 75%] [--steps 120] [--rates ...] [--lengths ...]``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search", description="How a prompt is best learned, on validation.")
    parser.add_argument("--level", default="75%")
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--rates", nargs="+", type=float, default=[0.003, 0.01, 0.03])
    parser.add_argument("--lengths", nargs="+", type=int, default=[20, 50, 100])
    parser.add_argument("--into", type=Path, default=measure.RESULTS, help="the folder of the record")
    asked = parser.parse_args()
    settings, path = study.load(), asked.into / "search.json"
    model, level = settings.study.models[0], Level.parse(asked.level)
    training = replace(
        settings.soft_prompt.training, steps=asked.steps, warmup_steps=asked.steps // 20, validate_every=asked.steps // 4
    )
    bench = Bench(replace(settings, soft_prompt=replace(settings.soft_prompt, training=training)), model, level)
    name = f"{model}, {level}, {asked.steps} steps"
    rows = cells.read(path)["shapes"].get(name, {"rows": []})["rows"] if path.exists() else []
    best = search(
        bench,
        rows,
        asked.rates,
        asked.lengths,
        lambda: measure.keep("search", "How a prompt is learned", {name: {"rows": rows}}, asked.into),
    )
    for row in rows:
        told = f"{row['vectors']:4} vectors, rate {row['rate']:6g}, {row['loss']:12} from {row['start']:7}"
        print(f"{told} validation {row['validation_nll']:.4f} nats per token")
    print(f"best: {asked_of(best)}")


if __name__ == "__main__":
    main()
