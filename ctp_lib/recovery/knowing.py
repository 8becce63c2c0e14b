"""What a compressed model knows and what it reads, with and without a repair: facts from memory, from a passage, and against one."""

import functools
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ctp_lib.evaluation import facts_items
from ctp_lib.evaluation.facts_items import CHOICES, FORMS
from ctp_lib.evaluation.perplexity import TOKENS_AT_ONCE
from ctp_lib.evaluation.stitched_lm import StitchedLM
from ctp_lib.evaluation.tasks import TaskScore
from ctp_lib.model import loading
from ctp_lib.recovery import comparison
from ctp_lib.recovery.base import Learned, registry
from ctp_lib.recovery.bench import Bench
from ctp_lib.recovery.none import METHOD as NONE
from ctp_lib.results import cells
from ctp_lib.settings import digests, paths
from ctp_lib.settings.levels import Level
from ctp_lib.settings.spec import ParameterError
from ctp_lib.settings.study import Study
from ctp_lib.text.documents import documents

Item = Mapping[str, Any]


def of_study(settings: Study, model: str) -> list[dict[str, Any]]:
    """The cells of every level that is asked, alone, and behind repairs where those are compared."""
    spec, found = settings.knowledge, []
    for level in map(Level.parse, spec.levels):
        compared = [name for at, name in settings.compared if at == level and name in spec.methods]
        found += [obtain(settings, model, level, name) for name in (NONE.name, *compared)]
    return found


def obtain(settings: Study, model: str, level: Level, method: str) -> dict[str, Any]:
    """The cell of ``method`` at ``level``: one row per relation, form and seed. It is made if it is not there."""
    bench, path = Bench(settings, model, level), paths.knowledge(settings, model, level, method)
    subject = bench.lesson(NONE.name, settings.seed).identity
    if method != NONE.name:
        subject = comparison.obtain(settings, model, level, method)["identity"]
    wanted = {
        "subject": digests.short(subject),
        "knowledge": {"items": settings.knowledge.items, "relations": settings.knowledge.relations, "seed": settings.seed},
        "documents": digests.content(paths.corpora(settings) / settings.soft_prompt.corpus / "train.jsonl.gz"),
        "code": digests.code([registry(settings).file(method), Path(__file__)]),
    }
    if (known := cells.known(path, wanted)) is not None:
        return known
    rows = [row for seed, learned in _learned(bench, method) for row in _asked(bench, learned, seed)]
    return cells.write(path, {"model": model, "level": str(level), "method": method}, identity=wanted, rows=rows)


def asked(settings: Study, relation: str) -> dict[str, list[dict[str, Any]]]:
    """The items of ``relation`` by form, the same facts in all. Raises :class:`ParameterError` for one with too few facts."""
    corpus, most = settings.soft_prompt.corpus, settings.knowledge.items // CHOICES * CHOICES
    found = {form: _items(f"{relation}_{form}", paths.corpora(settings), corpus, settings.seed)[:most] for form in FORMS}
    if not found[FORMS[0]]:
        raise ParameterError(f"knowledge.relations has {relation}, of which {corpus} tells fewer than four facts")
    return found


@functools.cache
def _items(task: str, folder: Path, corpus: str, seed: int) -> list[dict[str, Any]]:
    return facts_items.items(task, documents(folder, corpus, "train"), seed)


def answers(lm: StitchedLM, items: Sequence[Item]) -> list[tuple[int, bool]]:
    """The choice of each item that is likeliest behind its context, and whether the model, writing greedily, would begin with the right one.

    Raises :class:`ParameterError` where an item does not fit into the model's window.
    """
    requests = []
    for item in items:
        for pair in facts_items.pairs(item):
            context, answer = lm._encode_pair(*pair)
            if len(context) + len(answer) > lm.max_length:
                raise ParameterError(
                    f"a passage about {item['fact']!r} does not fit into {lm.max_length} tokens; take a longer window"
                )
            requests.append((pair, context, answer))
    found, given, first = lm._loglikelihood_tokens(requests), [], 0
    for item in items:
        own = found[first : first + len(item["choices"])]
        first += len(own)
        likeliest = max(range(len(own)), key=lambda choice: own[choice][0])
        given.append((likeliest, own[item["label"]][1]))
    return given


def _learned(bench: Bench, method: str) -> list[tuple[int, Learned]]:
    """By seed: nothing, or the size of the method that is best on validation."""
    if method == NONE.name:
        return [(bench.study.seed, bench.learned(NONE.name, bench.study.seed))]
    rows = comparison.obtain(bench.study, bench.model, bench.level, method)["perplexity"]
    point, contest = comparison.best_size(rows), comparison.Contest(bench, method)
    best = {row["seed"]: row["learning_rate"] for row in rows if row["point"] == point}
    return [(seed, contest.learned(point, rate, seed)) for seed, rate in best.items()]


def _asked(bench: Bench, learned: Learned, seed: int) -> list[dict[str, Any]]:
    settings, rows = bench.study, []
    window = loading.context(bench.network) - settings.soft_prompt.prompt_tokens
    with learned.on(bench.network) as subject:
        lm = StitchedLM(subject, bench.tokenizer, max_length=window, tokens_at_once=TOKENS_AT_ONCE[bench.network.device.type])
        for relation in settings.knowledge.relations:
            for form, items in asked(settings, relation).items():
                about = {"relation": relation, "form": form, "seed": seed, "trainable_parameters": learned.parameters}
                rows.append(about | _counted(items, answers(lm, items)))
    return rows


def _counted(items: Sequence[Item], given: Sequence[tuple[int, bool]]) -> dict[str, Any]:
    """Shares of the items, and ``units``: of each four facts that share their answers, the share that was answered right."""
    right = tuple(choice == item["label"] for item, (choice, _) in zip(items, given, strict=True))
    score = TaskScore("facts", "acc", right, CHOICES, 1 / CHOICES)
    remembered = [choice == item["true"] for item, (choice, _) in zip(items, given, strict=True) if "true" in item]
    return {
        "n": len(items),
        "value": score.value,
        "exact": statistics.fmean(exact for _, exact in given),
        "remembered": statistics.fmean(remembered) if remembered else None,
        "chance": score.chance,
        "units": list(score.units),
    }
