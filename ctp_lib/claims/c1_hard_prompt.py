"""C1: telling a compressed model in words that it is compressed."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import seaborn
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor

from ctp_lib.claims import style
from ctp_lib.claims.estimate import Estimate, of_runs
from ctp_lib.claims.verdict import Verdict, judge, without_cost
from ctp_lib.evaluation.subject import Subject, continuation_nll, write_on
from ctp_lib.model import loading
from ctp_lib.recovery.bench import Bench
from ctp_lib.recovery.hard_prompt import COLOUR, vectors

KINDS = ("hard prompt", "neutral")


def changes(bench: Bench, items: Tensor) -> list[dict[str, Any]]:
    """What every written prompt of the study, and every neutral text at its length, change in the NLL of each of ``items``: a row each."""
    spec, network, level = bench.study.hard_prompt, bench.network, str(bench.level)
    none, rows = continuation_nll(Subject(network), items, spec.continuation), []
    for name, text in spec.texts.items():
        sides = [("hard prompt", 0, vectors(network, bench.tokenizer, text))]
        sides += [("neutral", n, vectors(network, bench.tokenizer, neutral, text)) for n, neutral in enumerate(spec.neutral)]
        for kind, number, before in sides:
            found = continuation_nll(Subject(network, before), items, spec.continuation) - none
            fields = {"level": level, "prompt": name, "text": kind, "number": number, "prompt_tokens": len(before)}
            each = enumerate(zip(none.tolist(), found.tolist(), strict=True))
            rows += [{**fields, "item": item, "alone": alone, "change": change} for item, (alone, change) in each]
    return rows


def answers(bench: Bench, name: str) -> list[dict[str, Any]]:
    """What a model that takes instructions answers to the study's questions, alone and behind the written prompt ``name`` and a neutral text:
    a row a question, with whether it holds a word of the right answer. Nothing for a model without a chat template.
    """
    spec, tokenizer, rows = bench.study.hard_prompt, bench.tokenizer, []
    before = {"alone": "", name: spec.texts[name], "neutral": spec.neutral[0]}
    for question, right in spec.questions.items() if tokenizer.chat_template else ():
        for text, words in before.items():
            ids = loading.as_chat(tokenizer, f"{words}\n\n{question}".strip())
            answer = write_on(Subject(bench.network), tokenizer, ids, spec.continuation)
            found = any(word.lower() in answer.lower() for word in right)
            rows.append({"level": str(bench.level), "question": question, "text": text, "right": found, "answer": answer})
    return rows


def table(changes: pd.DataFrame) -> pd.DataFrame:
    """One row a level and prompt: share of items helped, mean change in NLL, for the prompt and for the neutral texts, and the estimate of
    ``lead``: how much lower NLL is behind the prompt than behind a neutral text, in nats per token. It varies with items and neutral texts.

    ``changes`` has level, prompt, text (hard prompt or neutral), number (of the neutral text), item, change.
    """
    found = {}
    for (level, prompt), group in changes.groupby(["level", "prompt"], sort=False):
        hard, neutral = (group[group.text == kind].pivot(index="number", columns="item", values="change") for kind in KINDS)
        found[level, prompt] = {
            "helped": (hard < 0).to_numpy().mean(),
            "helped_by_neutral": (neutral < 0).to_numpy().mean(),
            "change": hard.to_numpy().mean(),
            "change_by_neutral": neutral.to_numpy().mean(),
            "lead": of_runs(neutral.to_numpy() - hard.to_numpy(), "items", "neutral texts"),
        }
    return pd.DataFrame.from_dict(found, orient="index").rename_axis(["level", "prompt"])


def costs(changes: pd.DataFrame) -> dict[str, Estimate]:
    """What every compressed level costs on the items without any text before them, in nats per token."""
    alone = changes.drop_duplicates(["level", "item"]).pivot(index="level", columns="item", values="alone")
    found = {level: of_runs([alone.loc[level]], "items", None) for level in alone.index}
    return {level: cost - found["full"] for level, cost in found.items() if level != "full"}


def verdict(table: pd.DataFrame, costs: Mapping[str, Estimate], margin: float) -> Verdict:
    """C1: does a prompt of the paper beat neutral text of equal length, at every compressed level that costs something (``costs``)?"""
    paper = table[[prompt.startswith("paper") for _, prompt in table.index]]
    compressed = paper[paper.index.get_level_values("level") != "full"]
    leads = {f"{level} ({prompt.removeprefix('paper, ')})": row.lead for (level, prompt), row in compressed.iterrows()}
    free = without_cost(costs, margin)
    silent = {cell: why for level, why in free.items() for cell in leads if cell.startswith(f"{level} (")}
    part = judge("the paper's prompts beat neutral text of equal length", leads, margin, silent=silent)
    figures = (
        f"the paper's prompts help {compressed.helped.min():.0%} to {compressed.helped.max():.0%} of the items, neutral texts "
        f"{compressed.helped_by_neutral.min():.0%} to {compressed.helped_by_neutral.max():.0%}"
    )
    says = "telling a compressed model that it has errors beats neutral text"
    return Verdict("C1", says, part.told("Beats neutral text", "does not beat neutral text"), (part,), figures, "06_hard_prompt")


def figure(changes: pd.DataFrame) -> Figure:
    """How each item's right continuation changes behind a written prompt, beside a neutral text of equal length, in nats per token."""
    drawn, axis = plt.subplots(figsize=(11, 4.4), layout="constrained")
    colours = {"hard prompt": COLOUR, "neutral": style.NEUTRAL}
    seaborn.boxplot(changes, x="level", y="change", hue="text", palette=colours, ax=axis, width=0.7, fliersize=2, linewidth=1.2)
    axis.axhline(0, color=style.UNCOMPRESSED, linewidth=1)
    axis.set(
        xlabel="compression level",
        ylabel="change in NLL (nats per token)\nbelow zero it helps",
        title="How a text put first changes the prediction of a document",
    )
    axis.legend(title=None, frameon=False)
    seaborn.despine(drawn)
    return drawn
