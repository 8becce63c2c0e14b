"""All verdicts of a study: as data, as a table and as a page."""

import json
from typing import Any

import pandas as pd

from ctp_lib.claims.verdict import behind
from ctp_lib.results import cells
from ctp_lib.settings import models, paths
from ctp_lib.settings.study import Study

ROWS = {
    "C1": ["written_prompts/{}.json"], "C2": ["scores/{}"], "C3": ["scores/{}"], "C4": ["stored_size/{}.csv", "scores/{}", "cross_task/{}.json"],
    "C5": ["cross_dataset/{}.json", "scores/{}"], "C6": ["cross_compression/{}.json", "scores/{}"], "C7": ["cross_task/{}.json"],
    "C8": ["comparison/{}"], "C9": ["cost/{}.json"], "C11": ["another_model/{}.json"], "C12": ["nearest_tokens/{}.json"],
    "repair": ["scores/{}"],
    "DePT": ["comparison/{}"], "EoRA": ["comparison/{}", "scores/{}"], "DSnoT": ["scores/{}"], "IDP": ["each_input/{}.json"],
    **{f"K{number}": ["knowledge/{}"] for number in (1, 2, 3, 4)},
    "K5": ["knowledge/{}", "comparison/{}"], "K6": ["knowledge/{}", "compression/{}"],
}  # fmt: skip
"""The files under a study's results, by a model's name, whose rows a claim is judged by."""


def collect(settings: Study) -> list[dict[str, Any]]:
    """All verdicts on the models of the study, as ``claims.json`` has them. Of each claim, ``estimate``, ``low``, ``high``, ``unit``,
    ``margin``, ``seeds`` and ``clusters`` are those of its first part. The embedded study does not judge C10.
    """
    found = []
    for model in settings.study.models:
        kept = paths.claim(settings, model, "any").parent.glob("*.json")
        for path in sorted(kept, key=lambda path: (len(path.stem), path.stem)):
            if path.stem != "C11" or settings.another_model.of(model):  # else it is of another study
                verdict = cells.read(path)
                first = verdict["parts"][0]
                main = {name: first[name] for name in ("estimate", "low", "high", "unit", "margin", "seeds", "clusters")}
                voted = [cell["name"] for cell in first["cells"]]
                rows = [file.format(models.slug(model)) for file in ROWS[verdict["claim"]]]
                found.append({"model": model, **verdict, **main, "voted": voted, "rows": rows})
    return found


def page(claims: list[dict[str, Any]], settings: Study) -> str:
    """The ledger of one model as Markdown: the headlines, then all that is behind them."""
    prompt = settings.soft_prompt
    tokens = prompt.training.steps * prompt.training.batch_windows * settings.evaluation.window
    learned = f"A prompt has {prompt.prompt_tokens} vectors, learned from {tokens:,} tokens of {prompt.corpus} by {prompt.how}."
    rules = (
        "A claim is tested in cells: at a level, or at a level on one corpus or task. Some questions are about the mean over cells; they "
        "have one cell. A higher estimate is better for the claim. *Supported*: in every cell the whole interval lies above the margin, "
        "the smallest effect that matters. *Contradicted*: in at least one cell it lies at or below the margin. Otherwise *undecided*. "
        "*Not measured*: no cell of the first question votes. A cell does not vote where there is nothing to recover, or where training "
        "was too short to judge; its line gives the reason. A prompt that was still learning when its training ended can support a claim, "
        "but not contradict it. The intervals of a question hold for all its cells together. They allow for other documents or items (of "
        "facts and tasks in groups), and for other seeds where something was learned. They do not allow for another calibration text: it "
        "was drawn once. The table shows the mean over the cells of a claim's first question; the outcome rests on all cells and all "
        "questions."
    )
    lines = ["| claim | statement | found here | estimate, 95 % interval | seeds | outcome |", "|---|---|---|---|---|---|"]
    details = []
    for claim in claims:
        name = f"[{claim['claim']}](runs/{claim['notebook']})"
        lines.append(
            f"| {name} | {claim['question']} | {claim['headline']} | {_interval(claim)} | {claim['seeds'] or '-'} | **{claim['outcome']}** |"
        )
        details.append(f"\n## {claim['claim']}: {claim['outcome']}\n")
        details += behind(claim)
    return "\n".join([*lines, "", rules, "", learned, *details])


def summary(claims: list[dict[str, Any]], settings: Study) -> dict[str, Any]:
    """What `dvc metrics show` prints: outcomes, and the share of the lost NLL that the prompt recovers at every level, by model."""
    found = {}
    for model in settings.study.models:
        rows = pd.read_csv(paths.table(settings, "recovery", model), index_col="level").drop("full")
        shares = (rows.gain / rows.cost).round(4)
        outcomes = {claim["claim"]: claim["outcome"] for claim in claims if claim["model"] == model}
        found[model] = {"verdicts": outcomes, "recovered": json.loads(shares.to_json())}
    return found


def _interval(found: dict[str, Any]) -> str:
    if found["estimate"] is None:
        return "-"
    counted = found["low"] is None or not (found["clusters"] or found["seeds"])
    reach = "" if counted else f" ({found['low']:+.3f} to {found['high']:+.3f})"
    return f"{found['estimate']:+.3f}{reach} {found['unit']}"
