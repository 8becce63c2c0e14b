"""This study's run, a recorded one and the paper side by side: the share of the lost perplexity that a prompt gives back."""

import math
from collections.abc import Mapping

import pandas as pd
import seaborn
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from ctp_lib.claims import paper, style
from ctp_lib.claims.rules import recovered_share
from ctp_lib.recovery.none import METHOD as NONE
from ctp_lib.recovery.soft_prompt import METHOD as PROMPT
from ctp_lib.results.recorded import Run
from ctp_lib.settings.levels import Level


def shares(run: Run) -> pd.DataFrame:
    """The share of the lost perplexity that each level's own prompt of the broad corpus gives back: levels x corpora.

    Means over seeds. NaN where the level costs less than one per cent, of which there is nothing to give back.
    """
    table, own = run.perplexity, at_their_own_level(run)
    own = own[own.trained_on == run.settings.soft_prompt.corpus].groupby(["level", "evaluated_on"]).ppl.mean()
    none = table[table.method == NONE.name].groupby(["level", "evaluated_on"]).ppl.first()
    found: dict[str, dict[str, float]] = {}
    for level in map(str, run.settings.levels):
        for corpus in run.settings.corpora.sources:
            before, full = none[level, corpus], none[str(Level()), corpus]
            if before > 1.01 * full:
                found.setdefault(corpus, {})[level] = recovered_share(before, own[level, corpus], full)
    return pd.DataFrame(found).reindex(map(str, run.settings.levels)).dropna(how="all")


def direct_prompts(run: Run) -> pd.DataFrame:
    """What prompts change on the corpus they were learned on: a row a corpus and level with ``gain`` (NLL with less NLL without, nats a
    token; mean over seeds) and ``net``, the gain less that on the uncompressed model.
    """
    table, own = run.perplexity, at_their_own_level(run)
    own = own[own.trained_on == own.evaluated_on].groupby(["trained_on", "level"], sort=False).nll.mean()
    none = table[table.method == NONE.name].groupby(["evaluated_on", "level"]).nll.first().rename_axis(own.index.names)
    gain = (own - none).dropna().reindex(own.index)
    net = gain - gain.xs(str(Level()), level="level").reindex(gain.index, level="trained_on")
    return pd.DataFrame({"gain": gain, "net": net})


def at_their_own_level(run: Run) -> pd.DataFrame:
    """The rows of learned prompts used at the level they were learned at; those of the comparison with LoRA have a ``point`` and are none."""
    table = run.perplexity
    learned = (table.method == PROMPT.name) & (table.prompt_kind == "learned") & table.point.isna()
    return table[learned & (table.trained_at_level == table.level)]


def published_shares() -> tuple[dict[str, dict[str, float]], dict[str, dict[str, float]]]:
    """What LLaMA-7B's prompt gives back by level: on C4, where it was learned, and on WikiText-2.

    *printed* takes the paper's figures as they stand, *undone* as :func:`ctp_lib.claims.paper.exact` reads them.
    """
    transfer, wikitext = (
        paper.LLAMA_7B_3BIT_TRANSFER,
        {level: found["wikitext2"] for level, found in paper.LLAMA_7B_QUANTISED.items()},
    )
    c4 = {"3bit": (transfer["none"]["c4"], transfer["c4"]["c4"], transfer["full"]["c4"])}
    full = wikitext.pop("full")["none"]
    elsewhere = {level: (found["none"], found["transferred"], full) for level, found in wikitext.items()}
    return tuple(
        {
            "printed": {level: recovered_share(*row) for level, row in rows.items()},
            "undone": {level: recovered_share(none, paper.exact(prompted), full) for level, (none, prompted, full) in rows.items()},
        }
        for rows in (c4, elsewhere)
    )


def panels(runs: Mapping[str, Run]) -> dict[str, pd.DataFrame]:
    """Two tables, levels x runs: the shares on the text that prompts were learned on, and on the next corpus of each run."""
    levels, found = list(map(str, next(iter(runs.values())).settings.levels[1:])), {}
    for place, title in enumerate(("On the text it was learned on", "Transferred to another text")):
        texts = {run: list(one.settings.corpora.sources)[place] for run, one in runs.items()}
        said = ", ".join(f"{text} ({run})" for run, text in texts.items())
        columns = {run: shares(one)[texts[run]] for run, one in runs.items()}
        found[f"{title}: {said}, {('C4', 'WikiText-2')[place]} (LLaMA-7B)"] = pd.DataFrame(columns).reindex(levels)
    return found


def figure(panels: Mapping[str, pd.DataFrame], theirs: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Figure:
    """The share of the lost perplexity that a prompt gives back, by level: a panel a kind of text, a bar a run.

    Each table has the levels as its index and a column a run. ``theirs`` holds the paper's by panel: *printed* and *undone*, by level.
    """
    style.use()
    figure, axes = plt.subplots(len(panels), 1, figsize=(12.5, 3.7 * len(panels)), squeeze=False, layout="constrained")
    for axis, (title, table) in zip(axes.flat, panels.items(), strict=True):
        ours = dict(zip(table.columns, seaborn.light_palette(PROMPT.colour, len(table.columns) + 1)[1:], strict=True))
        bars = {run: (table[run].to_dict(), {"color": colour}) for run, colour in ours.items()}
        bars["LLaMA-7B, as printed"] = (theirs[title]["printed"], {"color": style.PUBLISHED})
        bars["the same, if averaged over 100 prompt positions"] = (
            theirs[title]["undone"],
            {"color": "white", "edgecolor": style.PUBLISHED, "linewidth": 1.5},
        )
        for number, (label, (shares, look)) in enumerate(bars.items()):
            places = [place + 0.2 * (number - (len(bars) - 1) / 2) for place, level in enumerate(table.index) if level in shares]
            values = [shares[level] for level in table.index if level in shares]
            drawn = axis.bar(places, values, width=0.19, label=label, **look)
            axis.bar_label(drawn, fmt=lambda value: "" if math.isnan(value) else f"{value:.0%}", fontsize=10, padding=2)
        axis.axhline(0, color=style.UNCOMPRESSED, linewidth=1)
        axis.axhline(1, color=style.UNCOMPRESSED, linestyle="--", linewidth=1.3)
        axis.set_xticks(range(len(table)), table.index)
        axis.set(title=title, ylabel="share of the lost\nperplexity given back")
        axis.margins(y=0.12)
        axis.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.flat[-1].set_xlabel("compression level")
    handles, labels = axes.flat[-1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    seaborn.despine(figure)
    return figure
