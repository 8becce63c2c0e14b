"""What to see in a figure: a sentence or two, written from its numbers. These point; what holds is for the verdicts to say."""

from collections.abc import Sequence

import pandas as pd

from ctp_lib.claims.estimate import flat, mean
from ctp_lib.claims.style import number
from ctp_lib.recovery.lora import METHOD as LORA
from ctp_lib.recovery.none import METHOD as NONE
from ctp_lib.recovery.soft_prompt import METHOD as PROMPT


class Said(str):
    """Words that Jupyter shows as a paragraph."""

    def _repr_markdown_(self) -> str:
        return str(self)


def recovery(table: pd.DataFrame) -> Said:
    """Of figure 1; ``table`` is that of :func:`c2_c3_recovery.table`."""
    whole, rows = table.ppl_none["full"], table.drop(index="full")
    mild, strong = rows.ppl_none.idxmin(), rows.ppl_none.idxmax()
    gains = flat(rows[["gain"]]).gain
    most, least = gains.idxmax(), gains.idxmin()
    there = [level for level, ppl in rows.ppl.items() if ppl <= whole]
    return Said(
        f"Compression takes the perplexity from {number(whole)} to {number(rows.ppl_none[mild])} at {mild}, and to "
        f"{number(rows.ppl_none[strong])} at {strong}. The prompt lowers NLL most at {most} ({gains[most]:+.3f} nats per token: "
        f"{number(rows.ppl_none[most])} to {number(rows.ppl[most])}) and least at {least} ({gains[least]:+.3f}). "
        + (
            f"With the prompt, {_and(there)} {'is' if len(there) == 1 else 'are'} at least as good as the uncompressed model."
            if there
            else "Even with the prompt, no level is as good as the uncompressed model."
        )
    )


def cross_dataset(table: pd.DataFrame, broad: str) -> Said:
    """Of figure 3; ``table`` over (trained_on, level, evaluated_on)."""
    told = []
    for level, rows in flat(table[["gain"]]).gain.groupby(level="level", sort=False):
        at = rows.droplevel("level")
        others = [corpus for corpus in at.index.unique("evaluated_on") if corpus != broad]
        gains = [
            f"{at[broad, corpus]:+.3f} on {corpus} (a prompt learned on that corpus: {at[corpus, corpus]:+.3f})"
            for corpus in others
        ]
        told.append(f"{level}: the prompt of {broad} gains {_and(gains)}.")
    return Said(" ".join(told))


def cross_compression(table: pd.DataFrame) -> Said:
    """Of figure 4; ``table`` over (trained_at_level, level)."""
    gains = flat(table[["gain"]]).gain
    away = gains[[source != level for source, level in gains.index]]
    if away.empty:
        return Said("There is only one level, so no prompt was used at another.")
    most, least = away.idxmax(), away.idxmin()
    return Said(
        f"Prompts were used at other levels in {len(away)} cases, and help in {(away > 0).sum()} of them. The best case is the prompt of "
        f"{most[0]} at {most[1]} ({away[most]:+.3f} nats per token; the prompt learned at {most[1]} gains {gains[most[1], most[1]]:+.3f}). "
        f"The worst is the prompt of {least[0]} at {least[1]} ({away[least]:+.3f})."
    )


def tasks(table: pd.DataFrame) -> Said:
    """Of figure 5; ``table`` over (task, level)."""
    shares = flat(table[["cost", "gain"]])
    cost, gain = shares.cost, shares.gain
    costly, best, worst = cost.idxmax(), gain.idxmax(), gain.idxmin()
    return Said(
        f"Compression costs most on {costly[0]} at {costly[1]}: {100 * cost[costly]:.0f} points. The prompt changes the share of right answers "
        f"by between {100 * gain[worst]:+.0f} points ({worst[0]}, {worst[1]}) and {100 * gain[best]:+.0f} points ({best[0]}, {best[1]})."
    )


def prompt_or_lora(table: pd.DataFrame) -> Said:
    """Of figure 6; ``table`` has one corpus of :func:`c8_lora.table`."""
    told = []
    for level, rows in table.groupby("level", sort=False):
        best = {method: own.sort_values("validation_nll").iloc[0] for method, own in rows.groupby("method")}
        named = {"a prompt": best.get(PROMPT.name), "LoRA": best.get(LORA.name)}
        shown = [f"{name} ({own.point}) {number(own.ppl)}" for name, own in named.items() if own is not None]
        told.append(
            f"{level}: perplexity {number(rows.ppl_none.iloc[0])} without a repair; at their best sizes: {', '.join(shown)}."
        )
    return Said(" ".join(told))


def repaired(table: pd.DataFrame, levels: Sequence[str]) -> Said:
    """Of figure 6b; ``table`` is that of :func:`repair.table`."""
    told = []
    for level in levels:
        rows = table.loc[level]
        alone, prompt = rows.loc[NONE.label], rows.loc[PROMPT.label]
        told.append(
            f"{level}: the prompt lowers NLL by {alone.nll - prompt.nll:.3f} nats per token, and the divergence from the uncompressed model "
            f"from {alone.kl:.3f} to {prompt.kl:.3f}."
        )
    return Said(" ".join(told))


def carried(table: pd.DataFrame) -> Said:
    """Of figure 11b; ``table`` is that of :func:`every_repair.carried`."""
    told = []
    for level, rows in table.groupby(level="level", sort=False):
        at = rows.droplevel("level").dropna(axis=1, how="all")
        for place in [place for place in at.columns if place != "home"]:
            best = at[place].idxmax()
            told.append(
                f"{place[0].upper()}{place[1:]}, {best} gains most: {at.loc[best, place]:+.2f} nats per token "
                f"({at.loc[best, 'home']:+.2f} at {level}, where it was learned)."
            )
    return Said(" ".join(told))


def each_input(table: pd.DataFrame) -> Said:
    """Of figure 12; ``table`` is that of :func:`each_input.table`."""
    told = []
    for level, rows in table[table.level != "full"].groupby("level", sort=False):
        gains = {treatment: mean(list(own.gain)).mean for treatment, own in rows.groupby("treatment", sort=False)}
        told.append(
            f"{level}, mean over the corpora: {_and([f'{name} gains {gain:+.3f}' for name, gain in gains.items()])} nats per token."
        )
    return Said(" ".join(told))


def sizes(table: pd.DataFrame) -> Said:
    """Of figure 7; ``table`` is that of :func:`c4_stored_size.table`."""
    full, rows = table[table.level == "full"].iloc[0], table[table.level != "full"]
    small = rows.sort_values("megabytes").iloc[0]
    usable = rows[rows.ppl_none <= 2 * full.ppl_none].sort_values("megabytes").head(1)
    told = f"The smallest file is that of {small.level}: {small.megabytes:.1f} MB, perplexity {number(small.ppl_none)}."
    if usable.empty:
        return Said(f"{told} Every level more than doubles the perplexity.")
    (row,) = usable.itertuples()
    if row.level == small.level:
        return Said(f"{told} That is at most twice the uncompressed perplexity.")
    other = f"{row.level}: {row.megabytes:.1f} MB, {number(row.ppl_none)}"
    return Said(f"{told} The smallest with at most twice the uncompressed perplexity is {other}.")


def step(table: pd.DataFrame) -> Said:
    """Of figure 9; ``table`` has method, seconds and activation_bytes."""
    rows = [f"{row.method} {row.seconds:.2f} s and {row.activation_bytes / 1e6:.0f} MB" for row in table.itertuples()]
    return Said(f"Time of one training step, and activations kept for the gradient: {'; '.join(rows)}.")


def _and(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
