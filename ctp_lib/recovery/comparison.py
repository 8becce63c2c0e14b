"""Methods at several sizes on one compressed model: each method's learning rate is swept on validation at one size, then all are run at it."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ctp_lib.recovery import scores
from ctp_lib.recovery.bench import Bench
from ctp_lib.recovery.lora import METHOD as LORA
from ctp_lib.recovery.soft_prompt import METHOD as PROMPT
from ctp_lib.results import cells
from ctp_lib.settings import digests, paths
from ctp_lib.settings.experiments import ComparisonSpec
from ctp_lib.settings.learning import LoraSpec, SoftPromptSpec
from ctp_lib.settings.levels import Level
from ctp_lib.settings.study import Study


@dataclass(frozen=True)
class Size:
    """One size of a method, as tables print it, and its settings, whatever their learning rate."""

    method: str
    point: str
    settings: SoftPromptSpec | LoraSpec


def obtain(settings: Study, model: str) -> dict[str, Any]:
    """The comparison at every level it is asked for: a row a size, rate, seed and corpus. It is made if it is not there."""
    path, spec = paths.question(settings, "comparison", model), settings.comparison
    levels = [Level.parse(level) for level in spec.levels]
    learned = [Bench(settings, model, level).lesson(PROMPT.name, seed).identity for level in levels for seed in spec.seeds]
    wanted = {
        "base": digests.short(learned),
        "comparison": asdict(spec),
        "evaluation": scores.evaluation(settings),
        "code": digests.code([Path(__file__)]),
    }
    if (found := cells.known(path, wanted)) is not None:
        return found
    recipe, rows = settings.soft_prompt, []
    lengths = dict.fromkeys([recipe.prompt_tokens, *spec.prompt_tokens])  # the study's own first
    prompts = [Size(PROMPT.name, f"{tokens} vectors", replace(recipe, prompt_tokens=tokens)) for tokens in lengths]
    loras = [Size(LORA.name, point, lora_at(spec, point, recipe, rate=1.0)) for point in spec.lora_points]
    for bench in (Bench(settings, model, level) for level in levels):
        rows += swept(bench, prompts, spec.prompt_rates) + swept(bench, loras, spec.lora_rates)
    return cells.write(path, {"model": model}, identity=wanted, perplexity=rows)


def lora_at(spec: ComparisonSpec, point: str, prompts: SoftPromptSpec, rate: float) -> LoraSpec:
    """The LoRA of one ``<rank>@<set>`` as ``prompts`` are trained, at a learning rate. Alpha is the rank, so that one rate suits all ranks."""
    rank, _, targets = point.partition("@")
    training = replace(prompts.training, learning_rate=rate)
    return LoraSpec(int(rank), spec.lora_targets[targets], training, alpha=float(rank), loss=prompts.loss)


def run(bench: Bench, size: Size, rate: float, seed: int) -> list[dict[str, Any]]:
    """Learn and score one size at one rate with one seed: a row a corpus. The study's own prompts are taken from their cells."""
    corpus, level = bench.study.soft_prompt.corpus, str(bench.level)
    own = replace(size.settings, training=replace(size.settings.training, learning_rate=rate))
    shared = own == bench.study.soft_prompt
    goal = None if shared else paths.learned_for(bench.study, "comparison", bench.model, bench.level, size.point, rate, seed=seed)
    learned = bench.learned(size.method, seed, own=own, goal=goal, label=f"{size.point}, rate {rate:g}")
    curve = [row["validation_nll"] for row in learned.run.curve]
    fields = {"point": size.point, "learning_rate": rate, "seed": seed, "trained_on": corpus}
    fields |= {"validation_nll": learned.run.best_nll, "falling": curve[len(curve) // 2] - curve[-1]}  # in its second half
    if shared:
        cell = scores.obtain(bench.study, bench.model, bench.level, size.method)
        rows = [row for row in cell["perplexity"] if row["seed"] == seed]
        return [{**row, "level": level, **fields, "reused": True} for row in rows]
    return bench.score(learned, trained_at_level=level, **fields)


def swept(bench: Bench, sizes: Sequence[Size], rates: Sequence[float]) -> list[dict[str, Any]]:
    """The sweep at the first of ``sizes``, and all of them at its best rate (``best_rate``), with every seed of the comparison."""
    spec, rows = bench.study.comparison, []

    def validation_nll(rate: float) -> float:
        rows.extend(run(bench, sizes[0], rate, spec.seeds[0]))
        return rows[-1]["validation_nll"]

    found = sweep(rates, validation_nll, spec.further_rates)
    best = min(found, key=found.__getitem__)
    for size, seed in [(size, seed) for size in sizes for seed in spec.seeds][1:]:
        rows += run(bench, size, best, seed)
    return [{**row, "best_rate": row["learning_rate"] == best} for row in rows]


def sweep(rates: Sequence[float], validation_nll: Callable[[float], float], further: int) -> dict[float, float]:
    """The validation NLL of each of ``rates``, and of up to ``further`` beyond, while the best is at an end, by the factor there."""
    found = {rate: validation_nll(rate) for rate in sorted(set(rates))}
    for _ in range(further if len(found) > 1 else 0):
        tried, best = sorted(found), min(found, key=found.__getitem__)
        if best not in (tried[0], tried[-1]):
            break
        neighbour = tried[1] if best == tried[0] else tried[-2]
        beyond = float(f"{best * (best / neighbour):.2g}")
        found[beyond] = validation_nll(beyond)
    return found
