"""What a compressed model knows and what it reads, with and without a repair: facts from memory, from a passage, and against one."""

import functools
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ctp_lib.compression import reached
from ctp_lib.evaluation import facts_items, summaries
from ctp_lib.evaluation.answering import Choice, Item, likeliest, likelihoods
from ctp_lib.evaluation.facts_items import CHOICES, FORMS
from ctp_lib.evaluation.stitched_lm import StitchedLM
from ctp_lib.evaluation.subject import Subject
from ctp_lib.evaluation.tasks import TaskScore
from ctp_lib.recovery import asking, comparison, scores
from ctp_lib.recovery.base import Learned, registry
from ctp_lib.recovery.bench import Bench
from ctp_lib.recovery.none import METHOD as NONE
from ctp_lib.results import cells
from ctp_lib.settings import digests, paths
from ctp_lib.settings.levels import Level
from ctp_lib.settings.spec import ParameterError, one_sentence
from ctp_lib.settings.study import Study
from ctp_lib.text.documents import documents


def of_study(settings: Study, model: str) -> list[dict[str, Any]]:
    """The cells of every level that is asked, alone, and behind repairs where those are compared."""
    return [obtain(settings, model, level, method) for level, method in settings.asked_for_facts]


def obtain(settings: Study, model: str, level: Level, method: str) -> dict[str, Any]:
    """The cell of ``method`` at ``level``: ``facts``, a row per relation, form and seed; ``summaries``, a row a seed; ``tasks``. It is made if
    it is not there.
    """
    bench, path, spec = Bench(settings, model, level), paths.knowledge(settings, model, level, method), settings.knowledge
    subject = bench.lesson(NONE.name, settings.seed).identity
    if method != NONE.name:
        subject = comparison.obtain(settings, model, level, method)["identity"]
    wanted = {
        "subject": digests.short(subject),
        "knowledge": {"items": spec.items, "written": spec.written, "relations": spec.relations, "tasks": spec.tasks},
        "own_tasks": asking.own_tasks(settings) if spec.tasks else None,
        "seed": settings.seed,
        "documents": [
            digests.content(paths.corpora(settings) / settings.soft_prompt.corpus / f"{part}.jsonl.gz")
            for part in ("train", "test")
        ],
        "code": digests.code([registry(settings).file(method), Path(__file__)]),
    }
    if (known := cells.known(path, wanted)) is not None:
        return known
    asking.prepare(settings, spec.tasks, spec.items)
    made: dict[str, Any] = {"facts": [], "summaries": [], "tasks": []}
    for seed, learned in _learned(bench, method):
        about = {"seed": seed, "trainable_parameters": learned.parameters}
        with learned.on(bench.network) as network:
            lm = harness(bench, network)
            made["facts"] += [{**about, **row} for relation in spec.relations for row in _facts(lm, settings, relation)]
            if texts := asked_to_summarise(settings):
                made["summaries"].append({**about, **summaries.scored(lm, texts)})
        if spec.tasks:
            scores = asking.scores(bench, learned, spec.tasks, spec.items)
            made["tasks"] += [{**about, **score.record()} for score in scores]
    cell = {"model": model, "level": str(level), "method": method}
    if model not in settings.study.models:  # the levels of the study's own are described already
        made["stored_bytes"] = reached.describe(settings, model, level, bench.network)["stored_bytes"]
    return cells.write(path, cell, identity=wanted, **made)


def smaller(settings: Study, model: str) -> dict[str, Any] | None:
    """The cell of the smaller model that ``model`` is compared with, uncompressed, and its ``stored_bytes``; None where there is none."""
    if model not in settings.knowledge.smaller:
        return None
    return obtain(settings, settings.knowledge.smaller[model], Level(), NONE.name)


def harness(bench: Bench, subject: Subject) -> StitchedLM:
    """lm-eval's model for the subject. Its window always leaves room for the study's prompt, so all methods read the same."""
    return StitchedLM(subject, bench.tokenizer, **asking.sizes(bench))


def asked(settings: Study, relation: str) -> dict[str, list[dict[str, Any]]]:
    """The items of ``relation`` by form, the same facts in all. Raises :class:`ParameterError` for one with too few facts."""
    corpus, most = settings.soft_prompt.corpus, settings.knowledge.items // CHOICES * CHOICES
    found = {form: _items(f"{relation}_{form}", paths.corpora(settings), corpus, settings.seed)[:most] for form in FORMS}
    if not found[FORMS[0]]:
        raise ParameterError(f"knowledge.relations has {relation}, of which {corpus} tells fewer than four facts")
    return found


def asked_to_summarise(settings: Study) -> list[dict[str, Any]]:
    """Texts whose summary is asked for; none where the corpus is no documentation."""
    corpus, most = settings.soft_prompt.corpus, settings.knowledge.written // CHOICES * CHOICES
    if settings.corpora.sources[corpus].packages is None:
        return []
    return summaries.items(documents(paths.corpora(settings), corpus, "test"), settings.seed)[:most]


@functools.cache
def _items(task: str, folder: Path, corpus: str, seed: int) -> list[dict[str, Any]]:
    return facts_items.items(task, documents(folder, corpus, "train"), seed)


def _learned(bench: Bench, method: str) -> list[tuple[int, Learned]]:
    """By seed, what was learned: nothing, or the method at its best size on validation."""
    if method == NONE.name:
        return [(bench.study.seed, bench.learned(NONE.name, bench.study.seed))]
    rows = comparison.obtain(bench.study, bench.model, bench.level, method)["perplexity"]
    point, contest = comparison.best_size(rows), comparison.Contest(bench, method)
    best = {row["seed"]: row["learning_rate"] for row in rows if row["point"] == point}
    return [(seed, contest.learned(point, rate, seed)) for seed, rate in best.items()]


def _facts(lm: StitchedLM, settings: Study, relation: str) -> list[dict[str, Any]]:
    return [
        {"relation": relation, "form": form, **counted(items, likelihoods(lm, items))}
        for form, items in asked(settings, relation).items()
    ]


def counted(items: Sequence[Item], found: Sequence[Sequence[Choice]]) -> dict[str, Any]:
    """Shares of the items, and ``units``: of each four facts that share their answers, the share that was answered right. ``exact``: greedy
    writing gives the scored text. ``remembered``: the true answer is the likeliest, though the passage says another.
    """
    given = [likeliest(choices) for choices in found]
    score = TaskScore(
        "facts", "acc", tuple(one == item["label"] for item, one in zip(items, given, strict=True)), CHOICES, 1 / CHOICES
    )
    remembered = [one == item["true"] for item, one in zip(items, given, strict=True) if "true" in item]
    return {
        "n": len(items),
        "value": score.value,
        "exact": statistics.fmean(choices[item["label"]].greedy for item, choices in zip(items, found, strict=True)),
        "remembered": statistics.fmean(remembered) if remembered else None,
        "chance": score.chance,
        "units": list(score.units),
    }


@one_sentence()
def main() -> None:
    """The command line."""
    for row in obtain(*scores.asked("ctp_lib.recovery.knowing", "Ask a model at a level for facts."))["facts"]:
        print(f"{row['relation']}, {row['form']}, seed {row['seed']}: {row['value']:.0%} right of {row['n']}")


if __name__ == "__main__":
    main()
