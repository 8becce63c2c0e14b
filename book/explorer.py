"""One static page with every recorded perplexity: choose a study, a corpus and a level; a point leads to the file it comes from.

All scripts lie in the page itself, so it works from the disk, without a network.
"""

import json
import shutil
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd

SHOWN = [
    "method", "size", "level", "perplexity", "KL", "share given back", "bytes added", "seconds to learn", "seeds", "lowest", "highest",
]  # fmt: skip
BYTES = "datum.value >= 1e6 ? datum.value / 1e6 + ' MB' : datum.value >= 1e3 ? datum.value / 1e3 + ' kB' : datum.value"
COLOURS = {
    "none": "#6b7280", "soft_prompt": "#d9480f", "lora": "#1c7ed6", "merged_lora": "#1864ab", "norms": "#0c8599", "eora": "#9c36b5",
    "dept": "#e67700", "idp": "#a61e4d", "kv_prefix": "#c2255c", "temperature": "#5c940d", "output_bias": "#495057",
    "intact_kv": "#a5d8ff", "text_prefix": "#868e96", "random_prefix": "#adb5bd", "sink": "#ced4da",
}  # fmt: skip
"""Those of the study's figures."""


def write(source: Path, page: Path, studies: Mapping[str, str]) -> None:
    """The explorer of ``studies`` (their names, and what they are called), as recorded under ``source``."""
    table = pd.DataFrame([row for study, called in studies.items() for row in rows(source, page.parent, study, called)])
    page.parent.mkdir(parents=True, exist_ok=True)
    html = chart(table).to_html(inline=True, fullhtml=True, embed_options={"actions": False, "renderer": "svg"})
    head = (
        '<meta name="viewport" content="width=device-width, initial-scale=1"><title>Explorer of all recorded perplexities</title>'
    )
    style = (
        "<style>body{font-family:sans-serif;margin:1rem}.vega-embed{width:100%;display:flex;flex-direction:column-reverse}"
        ".vega-bind{display:inline-block;margin:.3rem 1.5rem .3rem 0}select{font-size:1rem}</style>"
    )
    page.write_text(html.replace("<head>", f"<head>{head}{style}", 1).replace("<html>", '<html lang="en">', 1), encoding="utf-8")


def rows(source: Path, beside: Path, study: str, called: str) -> list[dict[str, Any]]:
    """A row a method, size, level and corpus, over seeds; the cell's file is laid ``beside`` the page."""
    folder, found = source / "results/recorded" / study, []
    seconds = of_learning(folder)
    for path in [*sorted(folder.glob("scores/*/*/*.json")), *sorted(folder.glob("comparison/*/*/*.json"))]:
        cell = json.loads(path.read_text(encoding="utf-8"))
        kept = beside / "cells" / study / path.relative_to(folder)
        groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for row in cell["perplexity"]:
            groups.setdefault((row.get("point", ""), row["evaluated_on"]), []).append(row)
        if groups:
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, kept)
        for (size, corpus), own in groups.items():
            ppl, kl = [row["ppl"] for row in own], [row["kl"] for row in own if row.get("kl") is not None]
            model, level, method = (cell["cell"][name] for name in ("model", "level", "method"))
            found.append({
                "study": called, "model": model, "level": level, "method": method, "size": size, "corpus": corpus,
                "perplexity": statistics.fmean(ppl), "lowest": min(ppl), "highest": max(ppl), "seeds": len(own),
                "KL": statistics.fmean(kl) if kl else None, "bytes added": own[0].get("bytes_added", 0),
                "seconds to learn": seconds.get((path.parent.parent.name, level, method, size)), "cell": kept.relative_to(beside).as_posix(),
            })  # fmt: skip
    return with_shares(found)


def of_learning(folder: Path) -> dict[tuple[str, str, str, str], float | None]:
    """Seconds of one training, by the model as it stands in paths, level, method and size."""
    found = {}
    for path in folder.glob("every_repair/*.csv"):
        for row in pd.read_csv(path).itertuples():
            found[path.stem, row.level, row.method, row.point] = None if pd.isna(row.seconds) else row.seconds
    return found


def with_shares(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The share of the perplexity lost by compression that each row gives back."""
    alone = {(row["model"], row["level"], row["corpus"]): row["perplexity"] for row in found if row["method"] == "none"}
    for row in found:
        lost, full = alone.get((row["model"], row["level"], row["corpus"])), alone.get((row["model"], "full", row["corpus"]))
        worse = lost is not None and full is not None and lost > full
        row["share given back"] = (lost - row["perplexity"]) / (lost - full) if worse else None
    return found


def chart(table: pd.DataFrame) -> alt.Chart:
    """Perplexity against bytes added, with three menus."""
    parameters, shown = [], table
    for name in ("study", "corpus", "level"):
        values = list(table[name].drop_duplicates())
        start = "75%" if name == "level" and "75%" in values else values[0]
        parameters.append(alt.param(name=name, value=start, bind=alt.binding_select(options=values, name=f"{name}: ")))
    here = " && ".join(f"datum['{name}'] == {name}" for name in ("study", "corpus", "level"))
    methods = [name for name in COLOURS if name in set(shown.method)]
    colour = alt.Color(
        "method:N", scale=alt.Scale(domain=methods, range=[COLOURS[name] for name in methods]), legend=alt.Legend(title=None)
    )
    across = alt.X(
        "bytes added:Q",
        scale=alt.Scale(type="symlog", constant=1000),
        axis=alt.Axis(labelExpr=BYTES, values=[0, 1e3, 1e4, 1e5, 1e6, 1e7]),
    )
    up = alt.Y("perplexity:Q", scale=alt.Scale(type="log", zero=False, nice=False, padding=20))
    base = alt.Chart(shown).add_params(*parameters).transform_filter(here)
    reach = base.mark_rule().encode(x=across, y=alt.Y("lowest:Q", title="perplexity"), y2="highest:Q", color=colour)
    tips = [alt.Tooltip(name, format=",.4~g") if shown[name].dtype.kind == "f" else alt.Tooltip(name) for name in SHOWN]
    points = base.mark_circle(size=140, opacity=0.9).encode(x=across, y=up, color=colour, href="cell:N", tooltip=tips)
    return (
        alt.layer(reach, points)
        .properties(width="container", height=420, title="Lower is better; a line spans the seeds")
        .configure_axis(labelFontSize=13, titleFontSize=14)
        .configure_legend(labelFontSize=13, orient="bottom", columns=3)
    )
