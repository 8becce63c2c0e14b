"""LLM-KICK's metrics as its released code computes them, and exactly, on the same questions to a model at a level."""

import random
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ctp_lib.evaluation import released_answers as released
from ctp_lib.evaluation.answering import likeliest, likelihoods
from ctp_lib.evaluation.facts_items import CHOICES
from ctp_lib.evaluation.stitched_lm import StitchedLM
from ctp_lib.recovery import knowing
from ctp_lib.recovery.bench import Bench
from ctp_lib.recovery.none import METHOD as NONE
from ctp_lib.results import cells
from ctp_lib.settings import digests, paths
from ctp_lib.settings.levels import Level
from ctp_lib.settings.study import Study
from ctp_lib.text.facts import countries

FACTOID = "Please give answer to this question: What is the capital of {}?\nThe answer is "
RETRIEVAL = "Based on these texts, answer these questions:\n\n{}\n\nQ: What is the capital of {}?\nA:"
CHOICE = "What is the capital of {}?\n{}\nAnswer:"
LETTERS = "ABCD"
WRITTEN = 32
"""Tokens behind a passage; behind a factoid question, twice as many as it has, as in the released code."""


def of_study(settings: Study, model: str) -> list[dict[str, Any]]:
    """The cells of the uncompressed model and of the last level that is asked for facts."""
    levels = settings.knowledge.levels
    return [obtain(settings, model, Level.parse(level)) for level in dict.fromkeys(["full", levels[-1]])]


def obtain(settings: Study, model: str, level: Level) -> dict[str, Any]:
    """The cell of ``level``: a row a metric, ``released`` and ``exact``, and what the released code prints for a model that writes ``nothing``.

    It is made if it is not there. All capitals may be asked, also those that the country's own name holds, as in questions that people write.
    """
    bench, path = Bench(settings, model, level), paths.audited(settings, model, level)
    wanted = {
        "subject": digests.short(bench.lesson(NONE.name, settings.seed).identity),
        "written": settings.knowledge.written,
        "seed": settings.seed,
        "code": digests.code([Path(__file__)]),
    }
    if (known := cells.known(path, wanted)) is not None:
        return known
    facts = countries("capital")
    random.Random(settings.seed).shuffle(facts)
    with bench.learned(NONE.name, settings.seed).on(bench.network) as subject:
        most = min(len(facts), settings.knowledge.written) // CHOICES * CHOICES
        rows = audit(knowing.harness(bench, subject), facts[:most])
    return cells.write(path, {"model": model, "level": str(level), "method": NONE.name}, identity=wanted, rows=rows)


def audit(lm: StitchedLM, facts: list[tuple[str, str]]) -> list[dict[str, Any]]:
    """A row a metric on ``facts``, pairs of a question's subject and its answer, whose number is a multiple of four."""
    answers = [answer for _, answer in facts]
    fours = [facts[number // CHOICES * CHOICES :][:CHOICES] for number in range(len(facts))]
    prompts = [FACTOID.format(subject) for subject, _ in facts]
    passages = ["\n".join(f"The capital of {subject} is {answer}." for subject, answer in four) for four in fours]
    read = [RETRIEVAL.format(passage, subject) for passage, (subject, _) in zip(passages, facts, strict=True)]
    listed = ["\n".join(f"{letter}. {answer}" for letter, (_, answer) in zip(LETTERS, four, strict=True)) for four in fours]
    chosen = [CHOICE.format(subject, choices) for choices, (subject, _) in zip(listed, facts, strict=True)]
    right = [LETTERS[number % CHOICES] for number in range(len(facts))]

    recalled = [lm.write(prompt, 2 * len(lm.tok_encode(prompt))) for prompt in prompts]
    found = [lm.write(prompt, WRITTEN).strip() for prompt in read]
    tokens = [lm.write(prompt, 1) for prompt in chosen]
    items = [
        {"context": prompt, "choices": list(LETTERS), "label": LETTERS.index(letter)}
        for prompt, letter in zip(chosen, right, strict=True)
    ]
    scored = [likeliest(choices) == item["label"] for choices, item in zip(likelihoods(lm, items), items, strict=True)]
    nothing = [""] * len(facts)
    behind = [prompt + text for prompt, text in zip(prompts, recalled, strict=True)]
    by_memory, by_reading = released.exact(recalled, answers), released.exact(found, answers)
    return [
        _row("factoid", partial(released.factoid, answers=answers), behind, prompts, by_memory, recalled),
        _row("retrieval", partial(released.retrieval, answers=answers), found, nothing, by_reading, found),
        _row("letter", partial(released.letters, right=right), tokens, nothing, sum(scored) / len(scored), tokens),
    ]


def _row(
    metric: str,
    rule: Callable[[Sequence[str]], float],
    counted: Sequence[str],
    empty: Sequence[str],
    exact: float,
    texts: Sequence[str],
) -> dict[str, Any]:
    """A released ``rule`` on what it counts, and on the same where nothing was written."""
    figures = {"released": rule(counted), "exact": exact, "nothing": rule(empty)}
    return {"metric": metric, **figures, "n": len(texts), "text": texts[0]}
