"""What to see in a table or figure: a sentence or two, written from its numbers. These point; what holds is for the verdicts to say."""

from collections.abc import Mapping, Sequence

import pandas as pd

from ctp_lib.claims.estimate import Estimate, flat, mean
from ctp_lib.claims.style import number
from ctp_lib.claims.verdict import listed
from ctp_lib.recovery.lora import METHOD as LORA
from ctp_lib.recovery.none import METHOD as NONE
from ctp_lib.recovery.soft_prompt import METHOD as PROMPT


class Said(str):
    """Words that Jupyter shows as a paragraph."""

    def _repr_markdown_(self) -> str:
        return str(self)


def recovery(table: pd.DataFrame) -> Said:
    """Of figure 1; ``table`` is that of :func:`c2_c3_recovery.table`."""
    whole, rows, control = table.ppl_none["full"], table.drop(index="full"), table.gain["full"].mean
    mild, strong = rows.ppl_none.idxmin(), rows.ppl_none.idxmax()
    gains = flat(rows[["gain"]]).gain
    most, least = gains.idxmax(), gains.idxmin()
    there = [level for level, ppl in rows.ppl.items() if ppl <= whole]
    took = f"{number(rows.ppl_none[mild])} at {mild}" + (
        f", and to {number(rows.ppl_none[strong])} at {strong}" if strong != mild else ""
    )
    return Said(
        f"Compression takes the perplexity from {number(whole)} to {took}. The prompt lowers the NLL by {gains[most]:+.3f} nats per token at "
        f"{most} ({number(rows.ppl_none[most])} to {number(rows.ppl[most])})"
        + (f", and least, by {gains[least]:+.3f}, at {least}. " if least != most else ". ")
        + f"A prompt learned on the uncompressed model lowers its NLL by {control:+.3f}. "
        + (f"With the prompt, {listed(there)} {'is' if len(there) == 1 else 'are'} at least as good as the uncompressed model."
           if there else "Even with the prompt, no level is as good as the uncompressed model.")
    )  # fmt: skip


def hard_prompt(table: pd.DataFrame, items: int) -> Said:
    """Of figure 2; ``table`` is that of :func:`c1_hard_prompt.table`, over so many ``items``."""
    told = []
    for (level, prompt), row in table.drop(index="full", level="level").iterrows():
        told.append(
            f"{level}, {prompt}: it helps {round(row.helped * items)} of {items} items, neutral text {row.helped_by_neutral * items:.1f}"
        )
    return Said(f"{'; '.join(told)}.")


def cross_dataset(table: pd.DataFrame, broad: str) -> Said:
    """Of figure 3; ``table`` over (trained_on, level, evaluated_on)."""
    told = []
    for level, rows in flat(table[["gain"]]).gain.groupby(level="level", sort=False):
        at = rows.droplevel("level")
        others = [corpus for corpus in at.index.unique("evaluated_on") if corpus != broad]
        gains = [
            f"on {corpus} by {at[broad, corpus]:+.3f} (that corpus's own prompt: {at[corpus, corpus]:+.3f})" for corpus in others
        ]
        if gains:
            told.append(f"{level}: the prompt of {broad} lowers the NLL {listed(gains)} nats per token.")
    return Said(" ".join(told) or "There is only one corpus, so no prompt was used on another.")


def cross_compression(table: pd.DataFrame, margin: float) -> Said:
    """Of figure 4; ``table`` over (trained_at_level, level). What changes the NLL by less than ``margin`` is neither help nor harm."""
    gains = flat(table[["gain"]]).gain
    away = gains[[source != level and "full" not in (source, level) for source, level in gains.index]]
    if away.empty:
        return Said("There are not two compressed levels, so no prompt was used at another.")
    most, least = away.idxmax(), away.idxmin()
    control = [gain for (source, level), gain in gains.items() if source == "full" != level]
    return Said(
        f"Of {len(away)} transfers between compressed levels, {(away > margin).sum()} lower the NLL by more than {margin:g} nats per token, and "
        f"{(away < -margin).sum()} raise it by more. The best is from {most[0]} to {most[1]} ({away[most]:+.3f}; the prompt learned at "
        f"{most[1]} gains {gains[most[1], most[1]]:+.3f}), the worst from {least[0]} to {least[1]} ({away[least]:+.3f})."
        + (f" The control, the uncompressed model's prompt, gains {min(control):+.3f} to {max(control):+.3f}." if control else "")
    )


def tasks(table: pd.DataFrame) -> Said:
    """Of figure 5; ``table`` over (task, level)."""
    shares = flat(table[["cost", "gain"]])
    cost, gain, items = shares.cost, shares.gain, int(table.n.min())
    costly, best, worst = cost.idxmax(), gain.idxmax(), gain.idxmin()
    taken = f"Compression costs most on {costly[0]} at {costly[1]}: {100 * cost[costly]:.0f} points. " if cost[costly] > 0 else ""
    return Said(
        f"{taken}The prompt changes the share of right answers by between {100 * gain[worst]:+.0f} points ({worst[0]}, {worst[1]}) and "
        f"{100 * gain[best]:+.0f} points ({best[0]}, {best[1]}). One answer of {items} is {100 / items:.1f} points."
    )


def knowledge(table: pd.DataFrame) -> Said:
    """Of figure 5b; ``table`` is that of :func:`knowledge.table`."""
    told = []
    for relation, rows in table.groupby(level="relation", sort=False):
        right = {key: 100 * row.accuracy.mean for key, row in rows.droplevel("relation").iterrows()}
        told.append(
            f"{relation}: the uncompressed model answers {right['closed_book', 'full', NONE.name]:.0f} % from memory, "
            f"{right['in_context', 'full', NONE.name]:.0f} % with a true passage"
        )
        levels = [level for form, level, method in right if (form, method) == ("closed_book", NONE.name) and level != "full"]
        if levels:
            worst = min(levels, key=lambda level, right=right: right["closed_book", level, NONE.name])
            prompted = right.get(("closed_book", worst, PROMPT.name))
            told[-1] += f". At {worst}, {right['closed_book', worst, NONE.name]:.0f} % from memory"
            told[-1] += f", {prompted:.0f} % with a prompt" if prompted is not None else ""
    return Said(f"{'; '.join(told)}. Chance is {100 * table.chance.iloc[0]:.0f} %.")


def prompt_or_lora(table: pd.DataFrame) -> Said:
    """Of figure 6; ``table`` has one corpus of :func:`c8_lora.table`."""
    told = []
    for level, rows in table.groupby("level", sort=False):
        best = {method: own.sort_values("validation_nll").iloc[0] for method, own in rows.groupby("method")}
        named = {"a prompt": best.get(PROMPT.name), "LoRA": best.get(LORA.name)}
        shown = [f"{number(own.ppl)} with {name} ({own.point})" for name, own in named.items() if own is not None]
        told.append(f"{level}: perplexity {number(rows.ppl_none.iloc[0])} without a repair, {listed(shown)}.")
    return Said(" ".join(told))


def repaired(table: pd.DataFrame, levels: Sequence[str]) -> Said:
    """Of figure 6b; ``table`` is that of :func:`repair.table`."""
    told = []
    for level in levels:
        rows = table.loc[level]
        alone, prompt = rows.loc[NONE.label], rows.loc[PROMPT.label]
        told.append(
            f"{level}: with the prompt, the NLL goes from {alone.nll:.3f} to {prompt.nll:.3f} nats per token, and the divergence from the "
            f"uncompressed model from {alone.kl:.3f} to {prompt.kl:.3f}."
        )
    return Said(" ".join(told))


def every_repair(table: pd.DataFrame) -> Said:
    """Of figure 11; ``table`` is that of :func:`every_repair.table`."""
    told = []
    for level, rows in table[table.best].sort_values("ppl").groupby("level", sort=False):
        first, control = rows[~rows.control].iloc[0], rows[rows.control].iloc[0]
        prompt = rows[rows.method == PROMPT.name]
        beside = f", a soft prompt to {number(prompt.ppl.iloc[0])}" if len(prompt) and first.method != PROMPT.name else ""
        told.append(
            f"{level}: {first['name']} lowers the perplexity most, from {number(first.ppl_alone)} to {number(first.ppl)}{beside}. The best "
            f"control, {control['name']}, reaches {number(control.ppl)}."
        )
    return Said(" ".join(told))


def carried(table: pd.DataFrame) -> Said:
    """Of figure 11b; ``table`` is that of :func:`every_repair.carried`."""
    told = []
    for level, rows in table.groupby(level="level", sort=False):
        at = rows.droplevel("level").dropna(axis=1, how="all")
        helps = at[at.home > 0.1 * at.home.max()]  # a share of next to nothing says nothing
        for place in [place for place in at.columns if place != "home"]:
            kept = (helps[place] / helps.home).dropna()
            named = {PROMPT.label.removeprefix("compressed + "), kept.idxmax(), kept.idxmin()} if len(kept) else set()
            shown = [f"{name} {share:.0%}" for name, share in kept.items() if name in named]
            if shown:
                told.append(f"{place[0].upper()}{place[1:]}, of the gain at {level}, is kept: {', '.join(shown)}.")
    return Said(" ".join(told))


def each_input(table: pd.DataFrame, same: Mapping[str, str]) -> Said:
    """Of figure 12; ``table`` is that of :func:`each_input.table`, ``same`` that of :func:`each_input.same_for_all`."""
    told = []
    for level, rows in table[table.level != "full"].groupby("level", sort=False):
        gains = {treatment: mean(list(own.gain)).mean for treatment, own in rows.groupby("treatment", sort=False)}
        told.append(
            f"{level}, mean over the corpora: {listed([f'{name} gains {gain:+.3f}' for name, gain in gains.items()])} nats per token."
        )
    told += [f"{cell[0].upper()}{cell[1:]}, {why}." for cell, why in same.items()]
    return Said(" ".join(told))


def sizes(table: pd.DataFrame) -> Said:
    """Of figure 7; ``table`` is that of :func:`c4_stored_size.table`."""
    full, rows = table[table.level == "full"].iloc[0], table[table.level != "full"]
    if rows.empty:
        return Said("There is no compressed level.")
    small = rows.sort_values("megabytes").iloc[0]
    usable = rows[rows.ppl_none <= 2 * full.ppl_none].sort_values("megabytes").head(1)
    told = f"The smallest file is that of {small.level}: {small.megabytes:.1f} MB, perplexity {number(small.ppl_none)}."
    if usable.empty:
        return Said(f"{told} Every level more than doubles the perplexity.")
    (row,) = usable.itertuples()
    if row.level == small.level:
        return Said(f"{told} That is {row.ppl_none / full.ppl_none:.1f} times the uncompressed perplexity.")
    other = f"{row.level}: {row.megabytes:.1f} MB, {number(row.ppl_none)}"
    return Said(f"{told} The smallest with at most twice the uncompressed perplexity is {other}.")


def step(table: pd.DataFrame) -> Said:
    """Of figure 9; ``table`` has method, seconds and activation_bytes."""
    rows = [f"{row.method} takes {row.seconds:.3g} s and keeps {row.activation_bytes / 1e6:.0f} MB" for row in table.itertuples()]
    return Said(f"A training step of {'; '.join(rows)}.")


def agreement(table: pd.DataFrame, still_start: float) -> Said:
    """Of the table of notebook 15; ``table`` is that of :func:`c12_nearest_tokens.agreement_table`."""
    if still_start == 1:
        return Said("Every vector is still nearest to the token that it started from, so no prompt names a new token.")
    return Said(
        f"{still_start:.0%} of the vectors are still nearest to the token that they started from. Of the other nearest tokens, two prompts "
        f"share {table.shared.mean():.1f} on average, and {table.by_chance.mean():.1f} by chance."
    )


def another_model(table: pd.DataFrame) -> Said:
    """Of the table of notebook 16; ``table`` is that of :func:`c11_another_model.table`."""
    told = []
    for (model, level), rows in table.groupby(level=["model", "level"], sort=False):
        ppl = rows.droplevel(["model", "level"]).ppl
        told.append(
            f"{model} at {level}: perplexity {number(rows.ppl_none.iloc[0])} alone, {number(ppl['stitched'])} with these prompts, "
            f"{number(ppl['own'])} with its own"
        )
    return Said(f"{'; '.join(told)}.")


def readable(table: pd.DataFrame, digits: int = 3) -> pd.DataFrame:
    """``table`` for people: estimates with the 95 % interval of their own cell, if they have one, other numbers with four figures, and a dash
    where there is none.
    """

    def shown(value: object) -> object:
        if isinstance(value, Estimate):
            low, high = value.interval()
            reach = f" ({low:.{digits}f} to {high:.{digits}f})" if low < high < float("inf") else ""
            return f"{value.mean:.{digits}f}{reach}"
        if isinstance(value, float):
            return "-" if value != value else f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
        return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else value

    return table.astype(object).map(shown)
