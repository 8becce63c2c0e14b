"""What LLM-KICK's released metrics print, beside exact figures, on the same questions."""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

SAYS = {
    "factoid": "it searches the question too, and divides N + 1 questions by N",
    "retrieval": "any part of the answer counts as right, even an empty text",
    "letter": "last letter of one written token; exact: the likeliest letter",
}
"""What differs, by metric."""


def table(cells: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """One row a metric, in shares of the questions: ``released`` and ``exact`` at each level, and what is printed for an empty text."""
    found: dict[str, dict[tuple[str, str], Any]] = {}
    for cell in cells:
        for row in cell["rows"]:
            own = found.setdefault(
                row["metric"], {("", "questions"): row["n"], ("a model that writes nothing", "released"): row["nothing"]}
            )
            own |= {(cell["cell"]["level"], name): row[name] for name in ("released", "exact")}
    return pd.DataFrame.from_dict(found, orient="index")


def told(cells: Iterable[Mapping[str, Any]]) -> str:
    """How far the released figures are from the exact ones, in words."""
    lines = []
    for cell in cells:
        for row in cell["rows"]:
            off = f"{100 * row['released']:.1f} % released, {100 * row['exact']:.1f} % exact"
            lines.append(
                f"{cell['cell']['level']}, {row['metric']}: {off} ({SAYS[row['metric']]}). First answer: {row['text'].strip()!r}."
            )
    return "\n".join(lines)
