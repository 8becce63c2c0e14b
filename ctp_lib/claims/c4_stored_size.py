"""C4: what a level takes on disk, and what that buys."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import seaborn
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from ctp_lib.claims import style
from ctp_lib.claims.rules import Difference, Verdict, clearly, together
from ctp_lib.recovery.none import METHOD as NONE
from ctp_lib.recovery.soft_prompt import METHOD as PROMPT
from ctp_lib.settings.levels import Level


def table(reached: Mapping[str, Mapping[str, Any]], recovered: pd.DataFrame, bytes_added: int) -> pd.DataFrame:
    """One row a level: bits a weight, times smaller than 16 bits, megabytes of the whole model, with the prompt's own, and perplexity."""
    table = pd.DataFrame(
        {
            "level": level,
            "bits_per_weight": found["bits_per_weight"],
            "times_smaller": 16 / found["bits_per_weight"],
            "megabytes": found["stored_bytes"] / 1e6,
            "megabytes_with_prompt": (found["stored_bytes"] + bytes_added) / 1e6,
        }
        for level, found in reached.items()
    )
    return table.join(recovered[["ppl_none", "ppl", "recovered"]], on="level")


def verdict(sizes: pd.DataFrame, recovered: pd.DataFrame) -> Verdict:
    """C4, over the joint levels of the study: are they as small as bits and sparsity promise, and does a prompt lower the perplexity?"""
    sentences, parts = [], []
    for row in sizes.itertuples():
        level = Level.parse(row.level)
        if level.family == "joint":
            promised = 16 / (level.bits * (1 - level.sparsity))
            gain = Difference(recovered.gain[row.level], recovered.gain_stderr[row.level])
            sentences.append(
                f"{row.level} is {row.times_smaller:.2f} times smaller, not {promised:.0f} ({row.bits_per_weight:.2f} bits a weight with "
                f"mask, scales and zero points); the prompt changes its NLL by {gain.mean:+.4f} nats (s.e. {gain.stderr:.4f}) and gives "
                f"back {row.recovered:.0%}"
            )
            parts += [clearly(gain), "holds" if row.times_smaller >= 0.95 * promised else "does not hold"]
    says = "the joint model is 8 times smaller and a prompt recovers it too"
    if not parts:
        return Verdict("C4", says, "the study has no level that is both pruned and quantised", "not measured")
    return Verdict("C4", says, "; ".join(sentences), together(parts))


def figure(table: pd.DataFrame) -> Figure:
    """Perplexity against what a file really holds, with and without a prompt, the uncompressed model as a line.

    ``table`` has level, megabytes, ppl_none, ppl, with the prompt's own bytes in ``megabytes_with_prompt``.
    """
    style.use()
    full = table[table.level == "full"].iloc[0]
    figure, axis = plt.subplots(figsize=(9, 5), layout="constrained")
    for method, x, y in ((NONE, "megabytes", "ppl_none"), (PROMPT, "megabytes_with_prompt", "ppl")):
        axis.scatter(table[x], table[y], s=60, color=method.colour, label=method.label, zorder=3)
    for row in table.itertuples():
        ends = [row.megabytes, row.megabytes_with_prompt], [row.ppl_none, row.ppl]
        axis.plot(*ends, color=PROMPT.colour, alpha=0.35, linewidth=2)
        place = {"quantised": ((-8, 6), "right", "center"), "joint": ((11, 2), "left", "center")}
        offset, across, along = place.get(Level.parse(row.level).family, ((0, 7), "center", "bottom"))
        axis.annotate(row.level, (row.megabytes, row.ppl_none), xytext=offset, textcoords="offset points", ha=across, va=along)
    axis.axhline(full.ppl_none, color=style.UNCOMPRESSED, linestyle="--", linewidth=1.2, label=style.FULL)
    axis.set(xlabel="megabytes on disk: codes, mask, scales, zero points, embeddings, prompt", ylabel="perplexity (test)")
    style.logarithmic(axis)
    axis.margins(x=0.1)
    axis.legend(frameon=False)
    seaborn.despine(figure)
    return figure
