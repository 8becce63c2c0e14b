"""``python -m ctp_lib.claims.readme``: what the recorded runs found, in its places in README."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from ctp_lib.claims import style
from ctp_lib.recovery.random_prefix import METHOD as RANDOM
from ctp_lib.recovery.sink import METHOD as SINK
from ctp_lib.settings import paths, study
from ctp_lib.settings.study import Study

REAL = "smollm2_pilot"
RUNS = {REAL: "real model", "embedded": "small model"}
"""The recorded runs that README shows, and what it calls the first model of each."""
UNMEASURED = "not measured"
COLOURS = {"supported": "#2b8a3e", "contradicted": "#c92a2a", "undecided": "#6c757d"}
BADGES = "docs/badges"


def filled(text: str, settings: Study) -> str:
    """README's ``text`` with the tables of the recorded runs in their places."""
    recorded = {run: paths.recorded(settings, run) for run in RUNS}
    found = {run: _claims(folder) for run, folder in recorded.items()}
    blocks = {"ledger": ledger(found), "repairs": repairs(recorded[REAL])}
    blocks["compared"] = "\n\n".join(f"{RUNS[run].capitalize()}, {compared(folder)}" for run, folder in recorded.items())
    for name, found in blocks.items():
        block = re.compile(rf"(?s)(?<=<!-- {name} -->\n).*?(?=<!-- end of {name} -->)")
        text = block.sub(lambda _, found=found: found + "\n", text)
    return text


def _claims(folder: Path) -> dict[str, dict[str, Any]]:
    """The claims about the first model of a recorded run, by name."""
    found = json.loads((folder / "claims.json").read_text(encoding="utf-8"))
    return {claim["claim"]: claim for claim in found if claim["model"] == found[0]["model"]}


def ledger(found: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """A row a claim of which some run decided a cell: its outcome and headline in every run, with a link to the notebook. Below, the names of
    those that are undecided in every cell, or that no run measured. ``found``: claims by run and name.
    """
    claims: dict[str, Mapping[str, Any]] = {}
    for run in reversed(found.values()):  # the small model has them all, in order
        claims |= {name: claim for name, claim in run.items() if name not in claims}
    left: dict[str, list[str]] = {"Undecided": [], "Not measured": []}
    lines = [f"| claim | statement | {' | '.join(RUNS[run] for run in found)} |", "|---" * (2 + len(found)) + "|"]
    for name, claim in claims.items():
        measured = [own[name] for own in found.values() if name in own and own[name]["outcome"] != UNMEASURED]
        if {cell["outcome"] for one in measured for part in one["parts"][:1] for cell in part["cells"]} <= {"undecided"}:
            left["Undecided" if measured else "Not measured"].append(name)
            continue
        told = [_told(run, own.get(name)) for run, own in found.items()]
        lines.append(f"| {name} | {claim['question']} | {' | '.join(told)} |")
    below = " ".join(f"{what}: {', '.join(names)}." for what, names in left.items() if names)
    return "\n".join([*lines, *(["", below] if below else [])])


def _told(run: str, claim: Mapping[str, Any] | None) -> str:
    if claim is None or claim["outcome"] == UNMEASURED:
        return "-"
    badge = f"![{claim['outcome']}]({BADGES}/{claim['outcome']}.svg)"
    return f"[{badge}](results/recorded/{run}/runs/{claim['notebook']}) {claim['headline']}"


def badge(outcome: str) -> str:
    """An outcome as a coloured picture, in SVG."""
    width = 14 + 7 * len(outcome)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="20" role="img" aria-label="{outcome}"><title>{outcome}</title>'
        f'<rect width="{width}" height="20" rx="4" fill="{COLOURS[outcome]}"/><text x="{width / 2:g}" y="14" fill="#fff" '
        f'font-family="Verdana,DejaVu Sans,sans-serif" font-size="11" text-anchor="middle">{outcome}</text></svg>\n'
    )


def repairs(folder: Path) -> str:
    """What was put on the first model of a recorded run, by level, as a table for a page: perplexity, and KL to the uncompressed model. Two
    controls are left to the figure.
    """
    table = pd.read_csv(next((folder / "repair").glob("*.csv")))
    table = table[~table.subject.isin([SINK.label, RANDOM.label])]
    table["cell"] = [f"{style.number(row.ppl)} ({row.kl:.2f})" for row in table.itertuples()]
    rows = table.pivot(index="subject", columns="level", values="cell").fillna("-")
    rows = rows.loc[table.subject.drop_duplicates(), table.level.drop_duplicates()]
    lines = [["", *rows.columns], ["---"] * (len(rows.columns) + 1), *([row.Index, *row[1:]] for row in rows.itertuples())]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def compared(folder: Path) -> str:
    """All repairs of the first model of a recorded run, as notebook 11 puts it."""
    return next((folder / "every_repair").glob("*.md")).read_text(encoding="utf-8").strip()


if __name__ == "__main__":
    project = study.load()
    for outcome in COLOURS:
        path = project.root / BADGES / f"{outcome}.svg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(badge(outcome), encoding="utf-8")
    page = project.root / "README.md"
    page.write_text(filled(page.read_text(encoding="utf-8"), project), encoding="utf-8")
