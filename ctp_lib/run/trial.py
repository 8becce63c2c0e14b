"""Somebody's own model and text in some minutes: a study made for them alone, as large as the minutes allow. No edit of ``params.yaml``."""

import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd

from ctp_lib.claims.estimate import gain
from ctp_lib.compression import reached, saved
from ctp_lib.compression.base import method_for
from ctp_lib.compression.base import registry as compression_methods
from ctp_lib.evaluation.subject import Subject, write_on
from ctp_lib.machine import preflight, step_cost
from ctp_lib.model import loading
from ctp_lib.recovery import scores
from ctp_lib.recovery.base import registry, settings_of
from ctp_lib.recovery.bench import Bench
from ctp_lib.recovery.none import METHOD as NONE
from ctp_lib.results import cells
from ctp_lib.run import graph
from ctp_lib.settings import digests, models, paths
from ctp_lib.settings.corpora import CorpusSpec
from ctp_lib.settings.levels import Level
from ctp_lib.settings.spec import require
from ctp_lib.settings.study import RunSpec, Study
from ctp_lib.text import corpora, selection

RATES = {3e7: (0.1, 1e-2), 5e8: (3e-2, 3e-3), math.inf: (1e-3, 3e-4)}
"""By parameters, at most: the learning rates of a prompt and of LoRA. A rule of thumb from the recorded sweeps; nothing is swept here."""
LEARNING = 0.7
"""Of the time that is left after compression: the share that goes into learning; the rest is for scoring."""


def settle(base: Study, model: str, levels: Sequence[str], text: str, methods: Sequence[str]) -> Study:
    """A study of ``model`` at ``levels`` with ``methods`` on ``text``, a corpus of ``base`` or files. :class:`ParameterError`: there is none."""
    require(len(levels) > 0 and "full" not in levels, "levels", levels, "one compressed level or more, such as 3bit")
    for level in levels:
        method_for(Level.parse(level), compression_methods(base))
    corpus, sources, holds = text or base.soft_prompt.corpus, base.corpora.sources, ""
    if corpus not in sources:
        corpus, sources = "your_text", {"your_text": CorpusSpec(files={"train": text})}
        holds = digests.content(base.root / graph.without_pattern(text))
    name, spec = model if model in base.models else Path(model).name.removesuffix(".gguf"), base.model(model)
    network = preflight.on_shapes(spec)
    prompt, lora = next(rates for most, rates in RATES.items() if network.num_parameters() <= most)
    recipe = base.prompts_by("distilled")
    window = min(base.evaluation.window, loading.context(network) - recipe.prompt_tokens)
    asked = {name: {"training": {"learning_rate": lora}} if name == "lora" else {} for name in ("soft_prompt", *methods)}
    over = ("full", *dict.fromkeys(levels))
    called = f"try-{models.slug(name).replace('.', '-')}-{digests.short([asdict(sources[corpus]), holds])[:6]}"
    study = replace(
        base,
        study=RunSpec(called, (name,), (corpus,), over),
        models={**base.models, name: spec},
        corpora=replace(base.corpora, sources={corpus: sources[corpus]}),
        compression=replace(base.compression, corpus=corpus, window=window),
        soft_prompt=replace(recipe, corpus=corpus, seeds=(0,), training=replace(recipe.training, learning_rate=prompt)),
        evaluation=replace(base.evaluation, window=window),
        methods=asked,
        tasks=replace(base.tasks, names=("none",), levels=("full",), seeds=(0,)),
        cross_dataset=replace(base.cross_dataset, levels=over, seeds=(0,)),
        comparison=replace(base.comparison, levels=over, seeds=(0,), compressors=()),
        cross_compression=replace(base.cross_compression, seeds=(0,)),
        knowledge=replace(base.knowledge, relations=("continent",), levels=over, methods=(), smaller={}),
        another_model=replace(base.another_model, pairs=(), levels=("full",)),
    )
    return _ready(study)


def _ready(study: Study) -> Study:
    """Its methods can be learned, and its corpus is there and long enough."""
    for method in study.methods:
        settings_of(study, method)
    if not paths.corpora(study).exists():
        corpora.build(study.corpora, paths.corpora(study), root=study.root)
    (model,) = study.study.models
    selection.check_windows(study, loading.load_tokenizer(study.model(model)))
    return study


def fit(study: Study, minutes: float) -> Study:
    """``study`` with as many steps and test windows as fit into ``minutes``: compresses, measures a step, and says and keeps its choice."""
    began, (model,) = time.perf_counter(), study.study.models
    kept = paths.results(study) / "plan.json"
    asked = {"model": study.model(model).source, "minutes": minutes, "levels": study.study.levels, "methods": list(study.methods)}
    asked = json.loads(json.dumps(asked))
    for level in study.levels:
        saved.make(study, model, level)
    if kept.exists() and (plan := cells.read(kept))["asked"] == asked:
        return _with(study, plan["steps"], plan["windows"])
    spent = time.perf_counter() - began
    bench = Bench(study, model, study.levels[-1])
    one = bench.scored[study.soft_prompt.corpus].windows[: study.soft_prompt.training.batch_windows]
    candidate = replace(step_cost.soft_prompt(bench.network, study.soft_prompt.prompt_tokens), teacher=bench.teacher)
    step = step_cost.table({"prompt": lambda: candidate}, one, repeats=2).seconds.item()
    left = max(60 * minutes - spent, 30 * minutes)
    learned = len(study.methods) * (len(study.levels) - 1)
    rated = learned + len(study.levels)
    fitting = LEARNING * left / learned / step - 16  # validations take as long as 16
    steps = int(min(max(fitting, 10), study.soft_prompt.training.steps))
    windows = int(min(max((1 - LEARNING) * left / rated / step * len(one), 4), 100))
    with paths.replacing(kept) as incoming:
        incoming.write_text(json.dumps({"asked": asked, "steps": steps, "windows": windows}) + "\n", encoding="utf-8")
    print(f"Compressing took {spent:.0f} s, and a step takes {step:.2f} s.")
    print(f"So each of {learned} repairs gets {steps} steps, and {windows} windows are scored.")
    return _with(study, steps, windows)


def _with(study: Study, steps: int, windows: int) -> Study:
    training = replace(study.soft_prompt.training, steps=steps, warmup_steps=steps // 20, validate_every=max(1, steps // 5))
    scored = replace(study.evaluation, windows={"validation": min(8, windows), "test": windows})
    return replace(study, soft_prompt=replace(study.soft_prompt, training=training), evaluation=scored)


def scored(study: Study) -> list[dict[str, Any]]:
    """The score of every level alone, and of every method at the compressed ones; what is missing is learned."""
    (model,), found = study.study.models, []
    for level in study.levels:
        for name in (NONE.name, *(study.methods if level.family != "full" else ())):
            found.append(scores.obtain(study, model, level, name))
    return cells.rows(found)


def table(study: Study) -> pd.DataFrame:
    """One row a level and method: perplexity, what it gains in NLL (nats per token; a level alone, over the uncompressed model) with the ends
    of its interval over documents (95 % for all rows together), bytes of the whole and added, seconds of learning.
    """
    (model,), rows = study.study.models, {}
    found = {(row["level"], row["method"]): row for row in scored(study)}
    for (level, method), row in found.items():
        against = found[level, NONE.name] if method != NONE.name else found["full", NONE.name]
        gained = gain([row], [against], over_seeds=False)
        low, high = gained.interval(len(found) - 1)
        goal = paths.learned(study, model, Level.parse(level), method, 0)
        cost = paths.cost_of(study, goal)
        stored = reached.obtain(study, model, Level.parse(level))["reached"]["stored_bytes"]
        label = study.model(model).as_it_came if level == "full" else registry(study).get(method).label
        rows[level, label] = {
            "ppl": row["ppl"], "gain": gained.mean, "low": low, "high": high, "kl": row["kl"],
            "megabytes": (stored + row["bytes_added"]) / 1e6, "added_bytes": row["bytes_added"],
            "seconds": cells.read(cost)["cost"][0]["seconds"] if cost.exists() else 0.0,
        }  # fmt: skip
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["level", "subject"])


def samples(study: Study, tokens: int = 48) -> dict[str, str]:
    """How each writer goes on with the beginning of a held-out text, at the last level; the beginning comes first."""
    (model,), corpus = study.study.models, study.soft_prompt.corpus
    full, bench = (Bench(study, model, level) for level in (Level(), study.levels[-1]))
    context = bench.scored[corpus].windows[0, :tokens]
    found = {"text": bench.tokenizer.decode(context)}
    found[study.model(model).as_it_came] = write_on(Subject(full.network), bench.tokenizer, context, tokens)
    for name in (NONE.name, *study.methods):
        learned = bench.learned(name, 0)
        with learned.on(bench.network) as subject:
            found[f"{bench.level}, {registry(study).get(name).label}"] = write_on(subject, bench.tokenizer, context, tokens)
    return found


def advice(study: Study, found: pd.DataFrame) -> list[str]:
    """Three sentences on a :func:`table`: what compression cost, what each repair gave back, what to use. A gain counts beyond the margin."""
    margin = study.margins.nats
    levels, alone = [level for level in study.study.levels if level != "full"], NONE.label
    full, said = found.ppl["full"].item(), []
    cost = [f"{level} takes the perplexity from {full:.1f} to {found.ppl[level, alone]:.1f}" for level in levels]
    for level in levels:
        for subject, row in found.loc[level].drop(index=alone).iterrows():
            clear = "a clear gain" if row.low > margin else "clearly worse" if row.high < -margin else "no gain that matters"
            clear = "undecided" if row.high > margin >= row.low else clear
            interval = f"{row.gain:+.3f} nats per token, {row.low:+.3f} to {row.high:+.3f}; KL {found.kl[level, alone]:.3f} to {row.kl:.3f}"
            said.append(f"{level}, {subject}: perplexity {row.ppl:.1f}, {clear} ({interval}).")
    useful = found[(found.index.get_level_values("subject") == alone) | (found.low > margin)].loc[levels]
    best = useful.ppl.idxmin()
    use = f"{best[0]} as it is" if best[1] == alone else f"{best[0]} with {best[1].removeprefix('compressed + ')}"
    use = f"Lowest perplexity, counting only clear gains: {use}, {found.ppl[best]:.1f}, {found.megabytes[best]:.1f} MB."
    return [f"Compression: {'; '.join(cost)}.", " ".join(said), use]
