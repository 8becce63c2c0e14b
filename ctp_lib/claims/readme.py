"""``python -m ctp_lib.claims.readme``: what the recorded runs found, in its places in README and docs/results.md."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from ctp_lib.claims import overview, style
from ctp_lib.recovery.random_prefix import METHOD as RANDOM
from ctp_lib.recovery.sink import METHOD as SINK
from ctp_lib.settings import paths, study
from ctp_lib.settings.study import Study

REAL = "smollm2_pilot"
RUNS = {REAL: "SmolLM2", "embedded": "small model"}
"""The recorded runs that the pages show, and what they call the first model of each."""
PAGES = ("README.md", "docs/results.md")
UNMEASURED = "not measured"
BADGES = "docs/badges"


def filled(text: str, settings: Study, page: str) -> str:
    """The ``text`` of a ``page`` with what the recorded runs found in its places."""
    recorded = {run: paths.recorded(settings, run) for run in RUNS}
    found = {run: _claims(folder) for run, folder in recorded.items()}
    root = "../" * page.count("/")
    blocks = {
        "found": lambda: overview.told(recorded[REAL]),
        "claims": lambda: ledger({run: _of_the_paper(claims) for run, claims in found.items()}, root, brief=True),
        "ledger": lambda: ledger(found, root),
        "repairs": lambda: repairs(recorded[REAL]),
        "compared": lambda: "\n\n".join(f"**{RUNS[run]}**\n\n{overview.compared(folder)}" for run, folder in recorded.items()),
    }
    for name, block in blocks.items():
        place = re.compile(rf"(?s)(?<=<!-- {name} -->\n).*?(?=<!-- end of {name} -->)")
        text = place.sub(lambda _, block=block: block() + "\n", text)
    return text


def _claims(folder: Path) -> dict[str, dict[str, Any]]:
    """The claims about the first model of a recorded run, by name."""
    found = json.loads((folder / "claims.json").read_text(encoding="utf-8"))
    return {claim["claim"]: claim for claim in found if claim["model"] == found[0]["model"]}


def _of_the_paper(claims: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    return {name: claim for name, claim in claims.items() if re.fullmatch(r"C\d+", name)}


def ledger(found: Mapping[str, Mapping[str, Mapping[str, Any]]], root: str = "", brief: bool = False) -> str:
    """A row a claim, with its outcome in every run as a link to the notebook, and its headline unless ``brief``. Below, what no run measured.
    ``found``: claims by run and name; ``root``: the way from the page to the project's root.
    """
    claims: dict[str, Mapping[str, Any]] = {}
    for run in reversed(found.values()):  # the small model has them all, in order
        claims |= {name: claim for name, claim in run.items() if name not in claims}
    unmeasured = [
        name for name in claims if all(run.get(name, {"outcome": UNMEASURED})["outcome"] == UNMEASURED for run in found.values())
    ]
    rows = [
        [name, claim["question"], *(_outcome(run, own.get(name), root, brief) for run, own in found.items())]
        for name, claim in claims.items()
        if name not in unmeasured
    ]
    below = f"\n\nNot measured yet: {', '.join(unmeasured)}." if unmeasured else ""
    return style.markdown(["", "claim", *(RUNS[run] for run in found)], rows) + below


def _outcome(run: str, claim: Mapping[str, Any] | None, root: str, brief: bool) -> str:
    if claim is None or claim["outcome"] == UNMEASURED:
        return "-"
    badge = f"![{claim['outcome']}]({root}{BADGES}/{claim['outcome']}.svg)"
    link = f"[{badge}]({root}results/recorded/{run}/runs/{claim['notebook']})"
    return link if brief else f"{link} {claim['headline']}"


def repairs(folder: Path) -> str:
    """What was put on the first model of a recorded run, by level, as a table for a page: perplexity, and KL to the uncompressed model. Two
    controls are left to the figure.
    """
    table = pd.read_csv(next((folder / "repair").glob("*.csv")))
    table = table[~table.subject.isin([SINK.label, RANDOM.label])]
    table["cell"] = [f"{style.number(row.ppl)} ({row.kl:.2f})" for row in table.itertuples()]
    rows = table.pivot(index="subject", columns="level", values="cell").fillna("-")
    rows = rows.loc[table.subject.drop_duplicates(), table.level.drop_duplicates()]
    return style.markdown(["", *rows.columns], ([row.Index, *row[1:]] for row in rows.itertuples()))


if __name__ == "__main__":
    project = study.load()
    for name in PAGES:
        path = project.root / name
        path.write_text(filled(path.read_text(encoding="utf-8"), project, name), encoding="utf-8")
    drawn = overview.figure(paths.recorded(project, REAL), "What brings the perplexity of pruned SmolLM2 down?")
    style.save(drawn, project.root / "figures/recorded", "overview")
