"""Quality for the money: how much of the gap a prompt gives back, against the tokens it was shown, by the paper's recipe and by ours.

Learned on the compressed copies that `make repro` leaves behind, stopped at the step that is best on validation, shown on test. Every
training that is finished is kept, so that a run that is cut goes on where it was; `--levels`, `--seeds` and `--steps` say how far it
goes; one of other steps stands beside the others. Hours.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks import measure
from ctp_lib.evaluation.perplexity import perplexity
from ctp_lib.recovery.bench import Bench
from ctp_lib.recovery.soft_prompt import METHOD as PROMPT
from ctp_lib.results import cells
from ctp_lib.settings import study
from ctp_lib.settings.learning import SoftPromptSpec
from ctp_lib.settings.levels import Level
from ctp_lib.settings.study import Study
from ctp_lib.text import selection

SHARE = 0.1
"""Of the paper's tokens, at most, in which ours is to reach its quality."""


def recipes(settings: Study, steps: int = 1600) -> dict[str, SoftPromptSpec]:
    """The paper's recipe over ``steps`` steps of its four windows, and ours over a tenth of its tokens.

    The paper has 30,000 steps for a model of seven billion, and here one of four million is asked; its warm-up stays as long as it is.
    """
    paper, ours = settings.prompts_by("paper"), settings.prompts_by("distilled")
    few = round(SHARE * steps * paper.training.batch_windows / ours.training.batch_windows)
    return {"paper": _over(paper, steps, paper.training.warmup_steps), "distilled": _over(ours, few, few // 20)}


def _over(recipe: SoftPromptSpec, steps: int, warmup: int) -> SoftPromptSpec:
    """``recipe`` over other steps, and sixteen validations on the way."""
    training = replace(recipe.training, steps=steps, warmup_steps=min(warmup, steps // 3), validate_every=max(1, steps // 16))
    return replace(recipe, training=training)


def learn(settings: Study, name: str, recipe: SoftPromptSpec, level: str, seed: int) -> dict[str, Any]:
    """One prompt, and what it is worth: a row of the record."""
    bench = Bench(replace(settings, soft_prompt=recipe), settings.study.models[0], Level.parse(level))
    network, lesson = bench.network, bench.lesson(PROMPT.name, 0).settings
    text = selection.training_text(settings, bench.tokenizer, recipe.corpus, recipe.training, seed)
    test = selection.split_windows(settings, bench.tokenizer, recipe.corpus, "test")
    checkpoint = settings.root / "models" / "checkpoints" / f"recipe-{name}-{bench.level.slug}-{seed}.safetensors"
    teacher = bench.teacher if lesson.loss == "distillation" else None
    learned = PROMPT.learn(network, text, lesson, teacher, seed, checkpoint=checkpoint, label=f"{name}, {level}, seed {seed}")
    run = learned.run
    row = {
        "recipe": name,
        "level": level,
        "seed": seed,
        "tokens": run.tokens,
        "curve": run.curve,
        "validation_none": perplexity(network, text.validation).nll,
        "test": perplexity(network, test, learned.vectors).nll,
        "test_none": perplexity(network, test).nll,
        "settings": asdict(recipe),
    }
    checkpoint.unlink(missing_ok=True)
    return row


def uncompressed(settings: Study) -> dict[str, float]:
    """The NLL of the uncompressed model, on validation and on test."""
    bench, found = Bench(settings, settings.study.models[0], Level()), {}
    for split in ("validation", "test"):
        windows = selection.split_windows(settings, bench.tokenizer, settings.soft_prompt.corpus, split)
        found[split] = perplexity(bench.network, windows).nll
    return found


def missing(
    asked: Mapping[str, SoftPromptSpec], levels: list[str], seeds: list[int], rows: list[dict[str, Any]]
) -> Iterator[tuple]:
    """The trainings that are still to be done: name, recipe, level, seed. One of other settings does not count."""
    done = {(row["recipe"], row["level"], row["seed"], json.dumps(row["settings"])) for row in rows}
    for seed in seeds:
        for level in levels:
            for name, recipe in asked.items():
                if (name, level, seed, json.dumps(asdict(recipe))) not in done:
                    yield name, recipe, level, seed


def main() -> None:
    """``python -m benchmarks.recipe [--levels 75% 2bit 62.5%] [--seeds 0 1 2] [--steps 1600]``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recipe", description="Quality against tokens, by two recipes.")
    parser.add_argument("--levels", nargs="+", default=["75%", "2bit", "62.5%"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=1600, help="of the paper's recipe")
    parser.add_argument("--into", type=Path, default=measure.RESULTS, help="the folder of the record")
    asked = parser.parse_args()
    settings, path, length = study.load(), asked.into / "recipe.json", str(asked.steps)
    kept = cells.read(path)["shapes"] if path.exists() else {}
    rows = kept.get(length, {"runs": []})["runs"]
    full = uncompressed(settings)
    for name, recipe, level, seed in list(missing(recipes(settings, asked.steps), asked.levels, asked.seeds, rows)):
        rows = [row for row in rows if (row["recipe"], row["level"], row["seed"]) != (name, level, seed)]
        rows.append(json.loads(json.dumps(learn(settings, name, recipe, level, seed))))
        measure.keep("recipe", "Quality for the money", {length: {"full": full, "share": SHARE, "runs": rows}}, asked.into)
    for row in rows:
        print(f"{row['level']:6} {row['recipe']:12} seed {row['seed']}: {row['tokens']:9,} tokens, test {row['test']:.4f} nats")


if __name__ == "__main__":
    main()
