"""C4: what a level takes on disk, and what that buys."""

from collections.abc import Collection, Mapping
from typing import Any

import pandas as pd
import seaborn
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from ctp_lib.claims import style
from ctp_lib.claims.c7_cross_task import by_cell
from ctp_lib.claims.verdict import Verdict, counted, judge, without_cost
from ctp_lib.recovery.none import METHOD as NONE
from ctp_lib.recovery.soft_prompt import METHOD as PROMPT
from ctp_lib.settings.experiments import MarginsSpec
from ctp_lib.settings.levels import Level


def table(reached: Mapping[str, Mapping[str, Any]], recovered: pd.DataFrame, bytes_added: int) -> pd.DataFrame:
    """One row a level: bits per weight, times smaller than 16 bits, megabytes of the whole model, with the prompt's own, and perplexity."""
    stored = pd.Series({level: found["stored_bytes"] for level, found in reached.items()})
    table = recovered[["bits_per_weight"]].assign(
        times_smaller=16 / recovered.bits_per_weight, megabytes=stored / 1e6, megabytes_with_prompt=(stored + bytes_added) / 1e6
    )
    return table.join(recovered[["ppl_none", "ppl", "recovered"]]).reset_index()


def verdict(
    sizes: pd.DataFrame, recovered: pd.DataFrame, tasks: pd.DataFrame, margins: MarginsSpec, unfinished: Collection[str] = ()
) -> Verdict:
    """C4, over the joint levels of the study: are they as small as bits and sparsity promise, and does a prompt lower the perplexity, and
    raise accuracy on the ``tasks`` of :func:`ctp_lib.claims.c7_cross_task.table`? As there, one half of the items says where compression
    costs some, and the other what the prompt gives. Prompts of ``unfinished`` levels were still learning.
    """
    joint = sizes[[Level.parse(level).family == "joint" for level in sizes.level]].set_index("level")
    promised = {level: 16 / (Level.parse(level).bits * (1 - Level.parse(level).sparsity)) for level in joint.index}
    smaller = {level: joint.times_smaller[level] / promised[level] - 1 for level in joint.index}
    own = recovered.loc[joint.index]
    asked = by_cell(tasks[tasks.index.get_level_values("level").isin(joint.index)])
    still = asked.index[asked.level.isin(unfinished)]
    parts = (
        counted("as small as promised", smaller, -margins.bytes, "of the promised ratio"),
        judge("lower NLL", own.gain.to_dict(), margins.nats, silent=without_cost(own.cost.to_dict(), margins.nats),
              unfinished=unfinished),
        judge("higher accuracy", asked.gain_of_half.to_dict(), margins.accuracy, "of the items",
              silent=without_cost(asked.cost_of_half.to_dict(), 0.0), unfinished=still),
    )  # fmt: skip
    figures = "; ".join(
        f"{row.Index} is {row.times_smaller:.2f} times smaller ({row.bits_per_weight:.2f} bits per weight with mask, scales and zero points); "
        f"a prompt gives back {row.recovered:.0%} of the lost perplexity"
        for row in joint.itertuples()
    )
    shown = "; ".join(f"{row.times_smaller:.1f} times smaller, promised {promised[row.Index]:.0f}" for row in joint.itertuples())
    says = "50%+4bit makes a model 8 times smaller, and a prompt repairs it"
    headline = f"{shown}; recovery: {parts[1].outcome}" if len(joint) else "No level is both pruned and quantised"
    return Verdict("C4", says, headline, parts, figures, "13_stored_size")


def figure(table: pd.DataFrame, uncompressed: str) -> Figure:
    """Perplexity against what a file really holds, with and without a prompt; the model as it came as a line, with its name."""
    full = table[table.level == "full"].iloc[0]
    top = style.ceiling([*table.ppl_none, *table.ppl], full.ppl_none)
    table = table.assign(ppl_none=table.ppl_none.clip(upper=top), ppl=table.ppl.clip(upper=top))
    figure, axis = plt.subplots(figsize=(9, 5), layout="constrained")
    for method, x, y in ((NONE, "megabytes", "ppl_none"), (PROMPT, "megabytes_with_prompt", "ppl")):
        axis.scatter(table[x], table[y], s=60, color=method.colour, label=method.label, zorder=3)
    for row in table.itertuples():
        ends = [row.megabytes, row.megabytes_with_prompt], [row.ppl_none, row.ppl]
        axis.plot(*ends, color=PROMPT.colour, alpha=0.35, linewidth=2)
        place = {"quantised": ((-8, 6), "right", "center"), "joint": ((11, 2), "left", "center")}
        offset, across, along = place.get(Level.parse(row.level).family, ((0, 7), "center", "bottom"))
        name = row.level
        if row.ppl_none == top:
            name, offset, across, along = f"{row.level}, beyond the axis", (9, 0), "left", "center"
        axis.annotate(name, (row.megabytes, row.ppl_none), xytext=offset, textcoords="offset points", ha=across, va=along)
    axis.axhline(full.ppl_none, color=style.UNCOMPRESSED, linestyle="--", linewidth=1.2, label=uncompressed)
    axis.set(xlabel="megabytes if packed: codes, mask, scales, zero points, embeddings, prompt", ylabel="perplexity (test)")
    style.logarithmic(axis)
    axis.margins(x=0.1)
    axis.legend(frameon=False)
    seaborn.despine(figure)
    return figure
