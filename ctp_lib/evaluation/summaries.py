"""Summarising what is given: is the right summary the likeliest of four, how likely is it, and how much of it does the model write?

A documentation's own first sentence is the summary of what follows it. The four summaries of an item are the right ones of four items, and
about as long, so a summary alone gives nothing away. ROUGE is that of the package rouge_score, with stemming: F1 of single words, of pairs,
and of the longest common subsequence (Lin 2004).
"""

import random
from collections.abc import Iterable, Sequence
from typing import Any

from ctp_lib.evaluation.answering import Item, likeliest, likelihoods
from ctp_lib.evaluation.facts_items import CHOICES, fours
from ctp_lib.evaluation.stitched_lm import StitchedLM
from ctp_lib.evaluation.tasks import TaskScore
from ctp_lib.text.documents import Document
from ctp_lib.text.facts import Fact, first_sentence

BODY = 400
"""Characters of the text that is read."""
WRITTEN = 32  # tokens
ROUGE = ("rouge1", "rouge2", "rougeL")


def items(documents: Iterable[Document], seed: int) -> list[dict[str, Any]]:
    """A text with its four summaries: ``context``, ``choices``, ``label``."""
    facts = []
    for document in documents:
        head, _, body = document.text.partition("\n\n")
        if first_sentence(document.text) and len(body) >= BODY:
            facts.append(Fact("summary", body[:BODY], head, str(len(head) // 8)))
    found = []
    for four in fours(facts, seed):
        for fact in four:
            choices = [one.answer for one in four]
            random.Random(f"{seed} {fact.answer}").shuffle(choices)
            found.append({"context": f"{fact.subject}\n\nSummary:", "choices": choices, "label": choices.index(fact.answer)})
    return found


def scored(lm: StitchedLM, asked: Sequence[Item]) -> dict[str, Any]:
    """All three on the items ``asked``: ``right``, a share by ``units`` of four; ``nats`` a token of the right summary; and ROUGE, per item."""
    from rouge_score.rouge_scorer import RougeScorer  # slow to import, and only this needs it

    rouge, choices = RougeScorer(list(ROUGE), use_stemmer=True), likelihoods(lm, asked)
    right = tuple(likeliest(own) == item["label"] for own, item in zip(choices, asked, strict=True))
    own = [found[item["label"]] for found, item in zip(choices, asked, strict=True)]
    texts = [lm.write(item["context"], WRITTEN).strip().partition("\n")[0] for item in asked]
    found = [rouge.score(item["choices"][item["label"]], text) for item, text in zip(asked, texts, strict=True)]
    return {
        "n": len(asked),
        "right": list(TaskScore("summary", "acc", right, CHOICES, 1 / CHOICES).units),
        "nats": [-one.likelihood / one.tokens for one in own],
        **{name: [score[name].fmeasure for score in found] for name in ROUGE},
        "text": texts[0],
    }
