"""Repair or adaptation? A repair brings a compressed model nearer to the uncompressed one; an adaptation to the text lowers its NLL alone."""

from collections.abc import Sequence

import pandas as pd
import seaborn
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from ctp_lib.claims import style
from ctp_lib.claims.estimate import Row, Rows, grouped
from ctp_lib.recovery.base import registry
from ctp_lib.recovery.lora import METHOD as LORA
from ctp_lib.recovery.none import METHOD as NONE
from ctp_lib.recovery.soft_prompt import METHOD as PROMPT
from ctp_lib.settings.study import Study


def table(settings: Study, scored: Rows, stitched: Rows, compared: Rows) -> pd.DataFrame:
    """One row a compressed level and subject, on the broad corpus: NLL and KL to the uncompressed model in nats per token, perplexity, and
    seeds, over which the figures are means.

    ``scored`` are the scores of every level and method, ``stitched`` prompts at other levels, ``compared`` sizes of methods, of which the best
    on validation count.
    """
    scored = list(scored)
    full = settings.model(scored[0].get("model", settings.study.models[0])).as_it_came
    same, own = f"{full} + the compressed model's prompt", f"{full} + its own prompt"
    broad, levels = settings.soft_prompt.corpus, [level for level in settings.study.levels if level != "full"]
    named = {name: registry(settings).get(name).label for name in (NONE.name, *settings.methods)}
    found: list[Row] = []
    for row in scored:
        found.append({**row, "at": row["level"], "subject": named.get(row["method"])})
        if row["level"] == "full" and row["method"] == NONE.name:
            found += [{**row, "at": level, "subject": full} for level in levels]
    found += [{**row, "at": row["trained_at_level"], "subject": same} for row in stitched if row["level"] == "full"]
    for (level, method), runs in grouped(compared, "level", "method").items():
        point = min(runs, key=lambda row: row["validation_nll"])["point"]
        best = [row for row in runs if row["point"] == point]
        if method == LORA.name and level != "full":
            found += [{**row, "at": level, "subject": f"{LORA.label}, {point}"} for row in best]
        elif method == PROMPT.name and level == "full":
            found += [{**row, "at": at, "subject": own} for row in best for at in levels]
    rows = pd.DataFrame([row for row in found if row["evaluated_on"] == broad and row["at"] in levels])
    means = rows.groupby(["at", "subject"]).agg(
        nll=("nll", "mean"), kl=("kl", "mean"), ppl=("ppl", "mean"), seeds=("seed", "nunique")
    )
    order = [full, own, same, *named.values()]
    order += [subject for subject in rows.subject.unique() if subject not in order]
    index = pd.MultiIndex.from_product([levels, order], names=["level", "subject"])
    return means.rename_axis(["level", "subject"]).reindex(index).dropna(how="all")


def figure(table: pd.DataFrame, levels: Sequence[str], settings: Study) -> Figure:
    """NLL above, KL to the uncompressed model below: a column a level, a bar a subject of :func:`table`."""
    look = {method.label: method.colour for name in (NONE.name, *settings.methods) for method in [registry(settings).get(name)]}
    shown, subjects = [level for level in levels if level in table.index], list(table.index.unique("subject"))
    size = (3.4 + 2.5 * len(shown), 1.2 + 0.7 * len(subjects))
    figure, axes = plt.subplots(2, len(shown), figsize=size, sharey=True, squeeze=False, layout="constrained")
    for column, level in enumerate(shown):
        rows = table.loc[level].reindex(subjects)
        for axis, value, label in (
            (axes[0][column], rows.nll, "NLL"),
            (axes[1][column], rows.kl, f"KL to the model\n{subjects[0]}"),
        ):
            colours = [look.get(name, LORA.colour if name.startswith(LORA.label) else style.UNCOMPRESSED) for name in subjects]
            axis.bar_label(axis.barh(subjects, value, color=colours), fmt="{:.2f}", padding=3, fontsize=10)
            axis.set(xlabel=f"{label} (nats per token)")
            axis.margins(x=0.2)
            axis.grid(visible=False)
        axes[0][column].set_title(level)
    axes[0][0].invert_yaxis()
    seaborn.despine(figure)
    return figure
