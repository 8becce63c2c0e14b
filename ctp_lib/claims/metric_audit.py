"""What the released code's perplexity measures: the same prompts by two formulas."""

import math

import pandas as pd
import seaborn
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from ctp_lib.claims import style
from ctp_lib.claims.estimate import Rows, recovered_share
from ctp_lib.recovery.lora import METHOD as LORA
from ctp_lib.recovery.soft_prompt import METHOD as PROMPT

LEADS = 0.01
"""A published perplexity is ahead of another when it is lower by more than this share."""


def table(rows: Rows, *, none: float, full: float) -> pd.DataFrame:
    """One row a prompt length, learned and untrained: exact and released perplexity, and the share each would call recovered."""
    table = pd.DataFrame(rows)[["prompt_kind", "prompt_tokens", "ppl", "ppl_released"]].rename(columns={"prompt_kind": "prompt"})
    for share, ppl in (("recovered", "ppl"), ("recovered_released", "ppl_released")):
        table[share] = [recovered_share(none, value, full) for value in table[ppl]]
    return table.groupby(["prompt", "prompt_tokens"], as_index=False).mean()


def told(ours: pd.DataFrame, theirs: pd.DataFrame, *, none: float, full: float) -> str:
    """What the two formulas make of the same prompts, in words. This is arithmetic and no claim that was tested."""
    untrained = ours[ours.prompt == "untrained"].iloc[-1]
    fooled = (ours.ppl_released < none) & (ours.ppl >= none)
    leads = (theirs.rank32 / theirs.exact).map(math.log) > LEADS
    return (
        f"An untrained prompt of {untrained.prompt_tokens:.0f} vectors takes the exact perplexity from {none:.2f} to {untrained.ppl:.2f} and "
        f"the released figure to {untrained.ppl_released:.2f} (uncompressed: {full:.2f}). {fooled.sum()} of {len(ours)} prompts look better "
        f"than no prompt but are not. If the released code printed the paper's rows (n = 100, L = 1,024), {leads.sum()} of its {len(theirs)} "
        f"leads over LoRA exceed {LEADS:.0%}. We cannot know whether it did."
    )


def figure(ours: pd.DataFrame, theirs: pd.DataFrame, *, none: float, full: float, uncompressed: str) -> Figure:
    """What the released code prints against the exact perplexity: our prompts by length, and the paper's rows (``theirs``) recomputed."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 5.4), layout="constrained")
    for prompt, colour in (("untrained", style.NEUTRAL), ("learned", PROMPT.colour)):
        rows = ours[ours.prompt == prompt].sort_values("prompt_tokens")
        left.plot(rows.prompt_tokens, rows.ppl, "o-", color=colour, label=f"{prompt}: exact")
        left.plot(
            rows.prompt_tokens, rows.ppl_released, "o--", color=colour, mfc="white", label=f"{prompt}: as released code prints it"
        )
    for value, text, colour in ((none, "no prompt", style.NEUTRAL), (full, uncompressed, style.UNCOMPRESSED)):
        left.axhline(value, color=colour, linewidth=1, linestyle=":")
        left.annotate(text, (0.01, value), xycoords=("axes fraction", "data"), va="bottom", color=colour)
    left.set(xlabel="vectors in the prompt", ylabel="perplexity", title="The same prompts, by two formulas")
    style.logarithmic(left)
    left.legend(frameon=False, fontsize=10, loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2)
    places = range(len(theirs))
    for shift, column, colour, label in (
        (-0.26, "prompt", PROMPT.colour, "prompt, printed"),
        (0, "exact", "#f4a984", "prompt, recomputed"),
        (0.26, "rank32", LORA.colour, "LoRA"),
    ):
        bars = right.bar([x + shift for x in places], theirs[column], 0.25, color=colour, label=label)
        right.bar_label(bars, fmt="{:.2f}", fontsize=9)
    right.set_xticks(places, [f"{row.model}\n{row.data}" for row in theirs.itertuples()])
    right.set(ylabel="perplexity (published)", title="The paper's rows against LoRA, recomputed for n = 100, L = 1,024")
    right.legend(frameon=False, fontsize=10, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3)
    seaborn.despine(figure)
    return figure
