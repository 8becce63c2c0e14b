"""What a model takes for the answer of an item: the likeliest choice."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ctp_lib.evaluation import facts_items
from ctp_lib.evaluation.stitched_lm import StitchedLM
from ctp_lib.settings.spec import ParameterError

Item = Mapping[str, Any]


class Choice(NamedTuple):
    """One choice of an item: its log-likelihood in nats, its tokens, and whether each of them is the likeliest where it stands."""

    likelihood: float
    tokens: int
    greedy: bool


def likelihoods(lm: StitchedLM, items: Sequence[Item]) -> list[list[Choice]]:
    """Every choice of every item. Raises :class:`ParameterError` where one does not fit into the model's window."""
    requests = []
    for item in items:
        for pair in facts_items.pairs(item):
            context, answer = lm._encode_pair(*pair)
            if len(context) + len(answer) > lm.max_length:
                about = item.get("fact", item["choices"][item["label"]])
                said = f"a question about {about!r} does not fit into the {lm.max_length} tokens that this model reads"
                raise ParameterError(f"{said}; leave its relation out")
            requests.append((pair, context, answer))
    scored = lm._loglikelihood_tokens(requests)
    found = iter(Choice(nats, len(answer), greedy) for (nats, greedy), (_, _, answer) in zip(scored, requests, strict=True))
    return [[next(found) for _ in item["choices"]] for item in items]


def likeliest(choices: Sequence[Choice]) -> int:
    """The index of the likeliest choice."""
    return max(range(len(choices)), key=lambda number: choices[number].likelihood)
