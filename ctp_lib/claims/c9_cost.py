"""C9: what a step of learning takes, and what a transferred prompt saves."""

import pandas as pd
import seaborn
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from ctp_lib.claims import style
from ctp_lib.claims.estimate import total
from ctp_lib.claims.verdict import Verdict, counted
from ctp_lib.recovery.base import registry


def transfer_savings(costs: pd.DataFrame, transfers: pd.DataFrame) -> pd.DataFrame:
    """A prompt of its own for every compressed level, against that of the costliest level for all: trainings, seconds, gain kept.

    ``costs`` has level, work, seconds; ``transfers`` is that of :func:`transfer_table` over (trained_at_level, level).
    """
    seconds = costs[costs.work == "train"].groupby("level").seconds.mean()
    gains = transfers.gain.unstack("level")
    levels = [level for level in gains.columns if level != "full"]
    own = pd.Series({level: gains.loc[level, level] for level in levels})
    best = max(levels, key=lambda level: transfers.cost[level, level].mean)
    return pd.DataFrame(
        {
            "trainings": [len(levels), 1],
            "seconds": [seconds[levels].sum(), seconds[best]],
            "share_of_gain": [1.0, total(list(gains.loc[best, levels])).mean / total(list(own)).mean],
        },
        index=["a prompt for every level", f"one prompt, learned at {best}"],
    )


def verdict(steps: pd.DataFrame, transfer: pd.DataFrame, margin: float, vectors: int, window: int) -> Verdict:
    """C9: does a step of the prompt (the first row) keep fewer bytes of activations than one of LoRA and of full fine-tuning?

    Seconds are told and not judged: they differ from run to run. The prompt has ``vectors`` before each ``window`` of tokens; what it keeps
    grows with both.
    """
    prompt, *others = (row for row in steps.itertuples())
    more = {other.method: other.activation_bytes / prompt.activation_bytes - 1 for other in others}
    part = counted("fewer bytes of activations", more, margin, "of the prompt's bytes")
    against = "; ".join(f"{other.method} takes {other.seconds / prompt.seconds:.2f} times as long" for other in others)
    one = transfer.iloc[1]
    kept = f"gives {one.share_of_gain:.0%} of the gain" if one.share_of_gain > 0 else "does harm over all levels"
    figures = (
        f"{prompt.method}: {prompt.activation_bytes / 1e6:.0f} MB of activations kept, {prompt.seconds:.2f} s per step; {against}; "
        f"{transfer.index[1]}, takes {one.seconds / transfer.seconds.iloc[0]:.0%} of the training time and "
        f"{kept}; here a prompt makes the input {vectors / window:.0%} longer, in the paper 10%, so more is kept"
    )
    says = "learning a prompt keeps fewer activations than LoRA or fine-tuning"
    fewer = sum(cell.outcome == "supported" for cell in part.cells)
    every = "both" if len(others) == 2 else f"all {len(others)}"
    headline = f"Keeps fewer bytes than {every if fewer == len(others) else f'{fewer} of {len(others)}'} alternatives"
    return Verdict("C9", says, headline, (part,), figures, "14_cost")


def figure(table: pd.DataFrame) -> Figure:
    """One training step on the same batch: seconds, and bytes of activations kept. ``table`` has method, by, seconds, activation_bytes."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.4), sharey=True, layout="constrained")
    colours = [registry().get(name).colour if name else style.UNCOMPRESSED for name in table.by]
    for axis, values, label, form in (
        (axes[0], table.seconds, "seconds a step", "{:.2f}"),
        (axes[1], table.activation_bytes / 1e6, "megabytes kept for the backward pass", "{:.0f}"),
    ):
        axis.bar_label(axis.barh(table.method, values, color=colours), fmt=form, padding=3)
        axis.set(xlabel=label)
        axis.margins(x=0.15)
        axis.grid(visible=False)
    axes[0].invert_yaxis()
    seaborn.despine(figure)
    return figure
