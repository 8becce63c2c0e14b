"""How a prompt is best learned on the study's first model: two losses at several rates, then several lengths, judged on validation.

A study's own settings are where it starts. Every training that is finished is kept, so that a run that is cut goes on where it was.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
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


def tried(bench: Bench, recipe: SoftPromptSpec) -> dict[str, Any]:
    """The row of one prompt: what it was learned by, and its validation NLL over steps."""
    settings, seed = bench.study, bench.study.soft_prompt.seeds[0]
    text = selection.training_text(settings, bench.tokenizer, recipe.corpus, recipe.training, seed)
    about = {"vectors": recipe.prompt_tokens, "rate": recipe.training.learning_rate, "loss": recipe.loss}
    label = f"{about['vectors']} vectors, rate {about['rate']:g}, {about['loss']}"
    name = models.slug(f"search-{bench.level.slug}-{recipe.prompt_tokens}-{about['rate']:g}-{recipe.loss}")
    checkpoint = settings.root / "models" / "checkpoints" / f"{name}.safetensors"
    teacher = bench.teacher if recipe.loss == "distillation" else None
    run = PROMPT.learn(bench.network, text, recipe, teacher, seed, checkpoint=checkpoint, label=f"{label}, {bench.level}").run
    checkpoint.unlink(missing_ok=True)
    return {**about, "validation_nll": run.best_nll, "curve": run.curve}


def search(
    bench: Bench, rows: list[dict[str, Any]], rates: list[float], lengths: list[int], keep: Callable[[], None]
) -> SoftPromptSpec:
    """The best of both losses at all ``rates``, and at that loss and rate the best of ``lengths``. ``rows`` grows, and ``keep`` is told."""

    def best_of(recipes: list[SoftPromptSpec]) -> SoftPromptSpec:
        found = []
        for recipe in recipes:
            asked = (recipe.prompt_tokens, recipe.training.learning_rate, recipe.loss)
            if asked not in {(row["vectors"], row["rate"], row["loss"]) for row in rows}:
                rows.append(json.loads(json.dumps(tried(bench, recipe))))
                keep()
            found += [row["validation_nll"] for row in rows if (row["vectors"], row["rate"], row["loss"]) == asked]
        return recipes[found.index(min(found))]

    recipe = bench.study.soft_prompt
    at = [replace(recipe.training, learning_rate=rate) for rate in rates]
    best = best_of([replace(recipe, loss=loss, training=training) for loss in ("next-token", "distillation") for training in at])
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
        print(
            f"{row['vectors']:4} vectors, rate {row['rate']:6g}, {row['loss']:12} validation {row['validation_nll']:.4f} nats per token"
        )
    print(f"best: {best.prompt_tokens} vectors, rate {best.training.learning_rate:g}, {best.loss}")


if __name__ == "__main__":
    main()
