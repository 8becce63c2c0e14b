"""All verdicts of a study, as a table and as a page."""

import json
from typing import Any

import pandas as pd

from ctp_lib.settings import paths
from ctp_lib.settings.study import Study


def collect(settings: Study) -> pd.DataFrame:
    """All verdicts on the models of the study: model, claim, says, measured, verdict. The embedded study does not judge C10."""
    found = [
        {"model": model, **json.loads(path.read_text(encoding="utf-8"))}
        for model in settings.study.models
        for path in sorted(paths.claim(settings, model, "any").parent.glob("*.json"), key=lambda path: (len(path.stem), path.stem))
        if path.stem != "C11" or settings.another_model.of(model)  # else it is of another study
    ]
    return pd.DataFrame(found).rename(columns={"outcome": "verdict"})


def as_markdown(table: pd.DataFrame) -> str:
    """The ledger as a table for a page."""
    lines = ["| claim | the paper says | measured here | verdict |", "|---|---|---|---|"]
    lines += [f"| {row.claim} | {row.says} | {row.measured} | **{row.verdict}** |" for row in table.itertuples()]
    return "\n".join(lines)


def page(table: pd.DataFrame, settings: Study) -> str:
    """The ledger of one model as Markdown, and what its prompts were learned from."""
    prompt = settings.soft_prompt
    tokens = prompt.training.steps * prompt.training.batch_windows * settings.evaluation.window
    learned = f"A prompt has {prompt.prompt_tokens} vectors, learned from {tokens:,} tokens of {prompt.corpus} by {prompt.how}."
    return f"{as_markdown(table)}\n\n{learned}"


def summary(table: pd.DataFrame, settings: Study) -> dict[str, Any]:
    """What `dvc metrics show` prints: verdicts, and the share that the prompt recovers at every level, by model."""
    found = {}
    for model, rows in table.groupby("model", sort=False):
        shares = pd.read_csv(paths.table(settings, "recovery", model), index_col="level").recovered.drop("full").round(4)
        found[model] = {"verdicts": dict(zip(rows.claim, rows.verdict, strict=True)), "recovered": json.loads(shares.to_json())}
    return found
