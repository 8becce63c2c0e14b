"""All that was tried on a pruned model in a recorded run, side by side: as a table, a figure and a few words for README."""

from pathlib import Path

import pandas as pd
import seaborn
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from ctp_lib.claims import style
from ctp_lib.recovery.base import registry
from ctp_lib.recovery.none import METHOD as NONE
from ctp_lib.results import cells

PRUNED = "75%"
FEW_BITS = "4bit, no repair"
"""Of which README tells: a level, and what is better than each repair of it."""
BEFORE, AFTER = "not compressed", "compressed"
"""The model without any repair, before and after it was brought to a level."""


def beside(folder: Path) -> dict[str, pd.DataFrame]:
    """By compressed level of notebook 11, all that was tried on the first model of a recorded run, from the lowest perplexity: the model before
    compression, which is the first, the level alone, every repair and control, and other ways to compress. ``added``: bytes more than those of
    the level alone, as a share of them; ``seconds`` to learn or compute it.
    """
    (path,) = (folder / "every_repair").glob("*.csv")
    reached = [cells.read(cell) for cell in (folder / "compression" / path.stem).glob("*.json")]
    stored = {cell["cell"]["level"]: cell["reached"]["stored_bytes"] for cell in reached}
    scored = pd.read_csv(folder / "perplexity.csv")
    broad = scored.trained_on.dropna().iloc[0]
    scored = scored[(scored.model == path.stem) & (scored.method == NONE.name) & (scored.evaluated_on == broad)]
    alone, found = scored.set_index("level")[["ppl", "kl"]].assign(size=""), {}
    for level, rows in pd.read_csv(path).groupby("level", sort=False):
        own = rows.assign(name=rows.name.where(~rows.control, rows.name + " (control)"), added=rows.bytes_added / stored[level])
        own = own.rename(columns={"point": "size"})
        named = {"full": BEFORE, level: AFTER}
        others = alone.assign(
            name=[named.get(other, f"{other}, no repair") for other in alone.index], added=pd.Series(stored) / stored[level] - 1
        )
        columns = ["name", "method", "size", "ppl", "kl", "added", "seconds"]
        found[str(level)] = pd.concat([others, own]).reindex(columns=columns).sort_values("ppl", ignore_index=True)
    return found


def compared(folder: Path) -> str:
    """:func:`beside` as tables for a page."""
    told = []
    for level, table in beside(folder).items():
        rows = []
        for row in table.itertuples():
            added = "" if row.name == BEFORE else "0" if row.added == 0 else f"{row.added:+.1%}"
            seconds = "" if row.seconds != row.seconds else f"{row.seconds:.0f}"
            rows.append([row.name, row.size, style.number(row.ppl), f"{row.kl:.2f}", added, seconds])
        told.append(style.markdown([level, "size", "perplexity", "KL", "bytes", "seconds to make"], rows))
    return "\n\n".join(told)


def told(folder: Path) -> str:
    """What a recorded run found at :data:`PRUNED`, as a list for a page. Raises :class:`ValueError` where the words do not fit the numbers."""
    table = beside(folder)[PRUNED].drop_duplicates("name").set_index("name")
    whole, alone = table.ppl[BEFORE], table.ppl[AFTER]
    prompt, norms, lora, bits = (table.ppl[name] for name in ("soft prompt", "norms tuned", "LoRA", FEW_BITS))
    if not (whole < bits < lora < norms < prompt < alone and table.added["norms tuned"] == 0 and table.added[FEW_BITS] < 0):
        raise ValueError(f"the words in {__name__} no longer hold of {folder.name}: write them anew")
    ppl = "{:.0f}".format
    return (
        f"- **A prompt helps, but it is not a full repair.** Pruning 75 % of the weights raises the perplexity from {ppl(whole)} to\n"
        f"  {ppl(alone)} (lower is better). A prompt lowers it to {ppl(prompt)}.\n"
        f"- **Other repairs help more.** Training only the norms and biases gives {ppl(norms)}, and adds no bytes. LoRA (small trained\n"
        f"  matrices beside the weights) gives {ppl(lora)}, and makes the model {100 * table.added['LoRA']:.0f} % larger.\n"
        f"- **Better compression helps most.** Rounding to 4 bits gives {ppl(bits)} without any repair, and takes\n"
        f"  {-100 * table.added[FEW_BITS]:.0f} % fewer bytes than pruning."
    )


def figure(folder: Path, title: str) -> Figure:
    """What README tells, as dots: the model before and after pruning, other levels, the best size of every repair, and the best control."""
    table = beside(folder)[PRUNED]
    (alone,) = table[table.name == AFTER].ppl
    control = table[table.name.str.endswith("(control)")].name.iloc[0]
    rows = table[(table.ppl <= alone) & (~table.name.str.endswith("(control)") | (table.name == control))].drop_duplicates("name")
    drawn, axis = plt.subplots(figsize=(10, 0.42 * len(rows) + 1.2), layout="constrained")
    for place, row in enumerate(rows.itertuples()):
        colour = registry().get(row.method).colour if isinstance(row.method, str) else style.UNCOMPRESSED
        axis.plot([row.ppl, alone], [place, place], color=colour, alpha=0.25, linewidth=3, zorder=1)
        axis.plot(row.ppl, place, "o", color=colour, markersize=10, zorder=2)
        size = f"  ({row.added:+.0%} bytes)" if row.name != BEFORE and abs(row.added) >= 0.005 else ""
        axis.annotate(
            f"{style.number(row.ppl)}{size}", (row.ppl, place), (-10, 0), textcoords="offset points", ha="right", va="center"
        )
    axis.set_yticks(range(len(rows)), [f"pruned by {PRUNED}" if name == AFTER else name for name in rows.name])
    axis.set(xscale="log", xlabel="perplexity (lower is better)", title=title, xlim=(rows.ppl.min() / 1.8, alone * 1.1))
    axis.xaxis.set_major_locator(plt.FixedLocator([30, 50, 100, 200]))
    axis.xaxis.set_major_formatter("{x:.0f}")
    axis.xaxis.set_minor_locator(plt.NullLocator())
    axis.invert_yaxis()
    axis.grid(visible=False, axis="y")
    seaborn.despine(drawn)
    return drawn
