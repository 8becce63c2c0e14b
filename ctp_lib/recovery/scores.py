"""What each method at each level was scored to be on the test text of every corpus: once, and never again for the same reason.

``python -m ctp_lib.recovery.scores MODEL LEVEL METHOD`` is a cell of the graph.
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ctp_lib.recovery.base import registry
from ctp_lib.recovery.bench import Bench
from ctp_lib.recovery.none import METHOD as NONE
from ctp_lib.results import cells
from ctp_lib.results.provenance import measured
from ctp_lib.settings import digests, paths, study
from ctp_lib.settings.levels import Level
from ctp_lib.settings.spec import one_sentence
from ctp_lib.settings.study import Study


def obtain(settings: Study, model: str, level: Level, method: str) -> dict[str, Any]:
    """The cell of ``method`` on ``model`` at ``level``: a row a corpus and seed. It is made if it is not there."""
    path, bench = paths.score(settings, model, level, method), Bench(settings, model, level)
    seeds = settings.soft_prompt.seeds if registry(settings).get(method).trains else (settings.seed,)
    wanted = {
        "subject": digests.short([bench.lesson(method, seed).identity for seed in seeds]),
        "evaluation": evaluation(settings),
        "code": digests.code([registry(settings).file(method), Path(__file__)]),
    }
    if (found := cells.known(path, wanted)) is not None:
        return found
    lesson, rows = bench.lesson(method, settings.seed), []
    taught = {"trained_on": lesson.text, "trained_at_level": str(level)} if lesson.method.trains else {}
    with measured("evaluate") as cost:
        for seed in seeds:
            rows += bench.score(bench.learned(method, seed), **taught, seed=seed)
    cost.tokens = sum(row["tokens_scored"] for row in rows)
    cell = {"model": model, "level": str(level), "method": method, "trained_on": taught.get("trained_on", "")}
    cells.write_cost(settings, path, cell, [cost])
    return cells.write(path, cell, identity=wanted, recipe=asdict(lesson.settings), perplexity=rows)


def of_study(settings: Study, model: str, methods: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """The cells of every level of the study, without anything and with each of ``methods`` (those of the study)."""
    names = [NONE.name, *(settings.methods if methods is None else methods)]
    return [obtain(settings, model, level, name) for name in names for level in settings.levels]


def evaluation(settings: Study) -> dict[str, Any]:
    """What a score depends on beside its subject: the test text, and how much of it."""
    texts = {corpus: digests.content(paths.corpora(settings) / corpus / "test.jsonl.gz") for corpus in settings.corpora.sources}
    return {"texts": texts, "window": settings.evaluation.window, "windows": settings.evaluation.windows["test"]}


def asked(module: str, does: str) -> tuple[Study, str, Level, str]:
    """The study, model, level and method that the command line of a cell of the graph names; ``does`` says what ``module`` does with them."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=does)
    for what in ("model", "level", "method"):
        parser.add_argument(what)
    said, settings = parser.parse_args(), study.load()
    return settings, settings.model_called(said.model), Level.parse(settings.level_called(said.level)), said.method


@one_sentence()
def main() -> None:
    """The command line."""
    for row in obtain(*asked("ctp_lib.recovery.scores", "Score a method on a model at a level."))["perplexity"]:
        print(f"{row['evaluated_on']:20} seed {row['seed']}: perplexity {row['ppl']:.3f}, {row['windows']} windows")


if __name__ == "__main__":
    main()
