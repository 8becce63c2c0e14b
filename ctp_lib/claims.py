"""The claims of the paper, one after the other: the table that a claim is judged by, and its verdict."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from ctp_lib import places
from ctp_lib.study import Level, Study
from ctp_lib.verdicts import (
    Difference,
    Verdict,
    clearly,
    counted,
    everywhere_lower,
    net_gain,
    over_seeds,
    paired_bootstrap,
    paired_difference,
    together,
    unit_means,
)


def _differences(table: pd.DataFrame, name: str = "gain") -> list[Difference]:
    """The column ``name`` of ``table`` with its standard errors."""
    return [Difference(*pair) for pair in zip(table[name], table[f"{name}_stderr"], strict=True)]


# ----------------------------------------------------------------------------- C2, C3 and C4, what a prompt recovers


def recovered_share(none: float, prompted: float, full: float) -> float:
    """(ppl_none - ppl_prompt) / (ppl_none - ppl_full): the share of the lost perplexity that is back; NaN when none was lost."""
    return (none - prompted) / (none - full) if none > full else math.nan


def recovery_table(cells: Sequence[Mapping[str, Any]], *, evaluated_on: str) -> pd.DataFrame:
    """One row a level: perplexity without and with a prompt, exact and as released, and what the prompt recovers.

    Figures with a prompt are means over seeds, ``seeds_low`` and ``seeds_high`` the extremes of the exact one. ``cost`` (to the
    uncompressed model), ``gain`` (to no prompt) and ``net_gain`` (beyond what the uncompressed model gains from its own prompt) are
    differences in NLL, nats a token; ``repaired`` is the share of the cost that the net gain takes back.
    """
    rows: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for cell in cells:
        for row in cell["perplexity"]:
            if row["evaluated_on"] == evaluated_on:
                rows.setdefault((cell["cell"]["level"], row["method"]), []).append(row)
    bits = {cell["cell"]["level"]: cell["manifest"]["bits_per_weight"] for cell in cells if "manifest" in cell}
    full, prompted_full = rows["full", "none"], rows["full", "soft_prompt"]
    table = {}
    for level in bits:
        none, prompted = rows[level, "none"], rows[level, "soft_prompt"]
        cost, gain, above = over_seeds(none, full), over_seeds(prompted, none), over_seeds(prompted, full)
        net, exact = net_gain(prompted, none, prompted_full, full), [row["ppl"] for row in prompted]
        table[level] = {
            "bits_per_weight": bits[level],
            "ppl_none": none[0]["ppl"],
            "ppl_soft_prompt": statistics.fmean(exact),
            "seeds_low": min(exact),
            "seeds_high": max(exact),
            "ppl_released": statistics.fmean(row["ppl_released"] for row in prompted),
            "recovered": recovered_share(none[0]["ppl"], statistics.fmean(exact), full[0]["ppl"]),
            "cost": cost.mean,
            "cost_stderr": cost.stderr,
            "gain": gain.mean,
            "gain_stderr": gain.stderr,
            "net_gain": net.mean,
            "net_gain_stderr": net.stderr,
            "repaired": -net.mean / cost.mean if cost.mean > 0 else math.nan,
            "above_full": above.mean,
            "above_full_stderr": above.stderr,
        }
    return pd.DataFrame.from_dict(table, orient="index").rename_axis("level")


MILD = 0.10
"""A level is mild when it costs at most this share in perplexity."""
MATCHES = 0.01
"""A model matches another when its NLL is clearly less than this many nats a token above: one per cent in perplexity."""


def recovery(table: pd.DataFrame) -> list[Verdict]:
    """C2 over all compressed levels, and C3 over the mild ones: is the prompted model clearly no worse than the uncompressed one?"""
    compressed = table.drop(index="full")
    gains, net = _differences(compressed), _differences(compressed, "net_gain")
    costly = compressed[compressed.cost > 4 * compressed.cost_stderr]
    shares = "no level costs clearly enough to speak of shares"
    if len(costly):
        shares = (
            f"it takes back {costly.recovered.min():.0%} to {costly.recovered.max():.0%} of the lost perplexity, "
            f"{costly.repaired.min():.0%} to {costly.repaired.max():.0%} net of that gain"
        )
    second = (
        f"the prompt clearly lowers the perplexity at {sum(gain.lower for gain in gains)} of {len(gains)} levels, at "
        f"{sum(gain.lower for gain in net)} by more than it gives the uncompressed model; {shares}"
    )
    mild = compressed[compressed.ppl_none <= (1 + MILD) * table.ppl_none["full"]]
    above = [Difference(row.above_full - MATCHES, row.above_full_stderr) for row in mild.itertuples()]
    released = (mild.ppl_released <= table.ppl_none["full"]).sum()
    third = (
        f"of {len(mild)} mild levels ({', '.join(mild.index)}) {sum(d.lower for d in above)} come within {MATCHES:.0%} of the uncompressed "
        f"model, by the released code's formula {released} would beat it; the uncompressed model itself gains "
        f"{-table.gain['full']:.4f} nats from a prompt"
    )
    return [
        Verdict(
            "C2", "a soft prompt lowers the perplexity of the compressed model at every level", second, everywhere_lower(gains)
        ),
        Verdict(
            "C3",
            "at mild levels the prompted compressed model matches or beats the uncompressed one",
            third,
            everywhere_lower(above),
        ),
    ]


def size_table(cells: Sequence[Mapping[str, Any]], recovered: pd.DataFrame) -> pd.DataFrame:
    """One row a level: bits a weight, times smaller than 16 bits, megabytes of the whole model, with the prompt's own, and perplexity."""
    manifests = {cell["cell"]["level"]: cell["manifest"] for cell in cells if "manifest" in cell}
    vectors = max(row["trainable_parameters"] for cell in cells for row in cell["perplexity"])
    table = pd.DataFrame(
        {
            "level": level,
            "bits_per_weight": manifest["bits_per_weight"],
            "times_smaller": 16 / manifest["bits_per_weight"],
            "megabytes": manifest["stored_bytes"] / 1e6,
            "megabytes_with_prompt": (manifest["stored_bytes"] + 4 * vectors) / 1e6,
        }
        for level, manifest in manifests.items()
    )
    return table.join(recovered[["ppl_none", "ppl_soft_prompt", "recovered"]], on="level")


def joint(sizes: pd.DataFrame, recovered: pd.DataFrame) -> Verdict:
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


# ------------------------------------------------------------------------------------------- C1, hard prompts


def hard_prompt_table(changes: pd.DataFrame) -> pd.DataFrame:
    """One row a level and prompt: share of items helped, mean change in NLL, for the prompt and for the neutral text, and
    ``beats_neutral``, the paired difference of the two with its standard error.

    ``changes`` has level, prompt, text (hard prompt or neutral), item, change.
    """
    table = {}
    for (level, prompt), group in changes.groupby(["level", "prompt"], sort=False):
        sides = group.pivot(index="item", columns="text", values="change")
        hard, neutral = sides["hard prompt"], sides["neutral"]
        beats = paired_difference(hard.tolist(), neutral.tolist())
        table[level, prompt] = {
            "helped": (hard < 0).mean(),
            "helped_by_neutral": (neutral < 0).mean(),
            "change": hard.mean(),
            "change_by_neutral": neutral.mean(),
            "beats_neutral": beats.mean,
            "beats_neutral_stderr": beats.stderr,
        }
    return pd.DataFrame.from_dict(table, orient="index").rename_axis(["level", "prompt"])


def hard_prompt(table: pd.DataFrame) -> Verdict:
    """C1: does a prompt of the paper clearly beat neutral text of equal length, at every compressed level?"""
    paper = table[[prompt.startswith("paper") for _, prompt in table.index]]
    levels = paper.index.get_level_values("level")
    compressed, full = paper[levels != "full"], paper[levels == "full"]
    leads = _differences(compressed, "beats_neutral")
    measured = (
        f"the paper's prompts help {compressed.helped.min():.0%} to {compressed.helped.max():.0%} of the items, a neutral text of equal "
        f"length {compressed.helped_by_neutral.min():.0%} to {compressed.helped_by_neutral.max():.0%}; they clearly beat it in "
        f"{sum(lead.lower for lead in leads)} of {len(leads)} cells (mean {compressed.beats_neutral.mean():+.3f} nats a token, on the "
        f"uncompressed model {full.beats_neutral.mean():+.3f}; below zero is better)"
    )
    return Verdict("C1", "telling a model in words that it is compressed improves its answers", measured, everywhere_lower(leads))


# ------------------------------------------------------------------------------------ C5 and C6, transfer of prompts


def transfer_table(
    rows: Iterable[Mapping[str, Any]], *, levels: Sequence[str], by: str, seeds: Sequence[int], evaluated_on: str | None = None
) -> pd.DataFrame:
    """What every prompt does at every level: index (``by``, level, evaluated_on), without the last where only one corpus is asked for.

    Prompts of other ``seeds`` are left out. ``by`` names where a prompt was learned, ``trained_on`` or ``trained_at_level``. ``gain``
    is the difference in NLL to the same model without a prompt (nats a token, negative is better) by :func:`over_seeds`; ``runs`` are
    the rows behind it.
    """
    none: dict[tuple[str, str], Mapping[str, Any]] = {}
    prompted: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["level"] in levels and evaluated_on in (None, row["evaluated_on"]):
            at = row["level"], row["evaluated_on"]
            if row["method"] == "none":
                none[at] = row
            elif row["seed"] in seeds:
                prompted.setdefault((row[by], *at), []).append(row)
    table = {}
    for (source, level, corpus), found in prompted.items():
        control, full = none[level, corpus], none["full", corpus]
        gain, ppl = over_seeds(found, [control]), statistics.fmean(row["ppl"] for row in found)
        table[(source, level, corpus) if evaluated_on is None else (source, level)] = {
            "ppl_full": full["ppl"],
            "ppl_none": control["ppl"],
            "ppl": ppl,
            "cost": control["nll"] - full["nll"],
            "recovered": recovered_share(control["ppl"], ppl, full["ppl"]),
            "gain": gain.mean,
            "gain_stderr": gain.stderr,
            "seeds": len(found),
            "runs": found,
        }
    names = [by, "level", *(() if evaluated_on else ("evaluated_on",))]
    return pd.DataFrame.from_dict(table, orient="index").rename_axis(names)


def cross_dataset(table: pd.DataFrame, *, broad: str) -> Verdict:
    """C5, at compressed levels, in three parts: the broad prompt helps elsewhere; a direct one is better on its own corpus; and does
    not help on the others.
    """
    flat = table.reset_index()
    flat = flat[flat.level != "full"]
    transferred = flat[(flat.trained_on == broad) & (flat.evaluated_on != broad)]
    direct = flat[(flat.trained_on != broad) & (flat.evaluated_on == flat.trained_on)]
    elsewhere = flat[(flat.trained_on != broad) & (flat.evaluated_on != flat.trained_on)]
    both = direct.merge(transferred, on=["level", "evaluated_on"], suffixes=("", "_transferred"))
    better = [over_seeds(row.runs, row.runs_transferred) for row in both.itertuples()]
    helps, spoilt = _differences(transferred), [gain.lower for gain in _differences(elsewhere)]
    parts = {
        "helps": everywhere_lower(helps),
        "better": everywhere_lower(better),
        "alone": counted(not helped for helped in spoilt),
    }
    measured = (
        f"the {broad} prompt clearly helps in {sum(gain.lower for gain in helps)} of {len(helps)} cells of other corpora (mean "
        f"{transferred.gain.mean():+.3f} nats); a prompt learned there is clearly better in {sum(d.lower for d in better)} of {len(better)} "
        f"(lead {statistics.fmean(d.mean for d in better):+.3f}); taken to yet another corpus it clearly helps in {sum(spoilt)} of "
        f"{len(spoilt)} (mean {elsewhere.gain.mean():+.3f}); {direct.seeds.min()} to {transferred.seeds.max()} seeds a cell"
    )
    return Verdict(
        "C5",
        "a prompt learned on a broad corpus helps on others; one learned directly is better there and does not transfer",
        measured,
        together(parts.values()),
    )


def directions(table: pd.DataFrame) -> pd.DataFrame:
    """Transfers between compressed levels by direction (from the level that costs more, or less) and by family.

    ``share`` is the sum of the transferred gains over that of the gains of the levels' own prompts.
    """
    pairs = _pairs(table)
    groups = pairs.groupby(["direction", "families"])
    found = groups.agg(pairs=("gain", "size"), gain=("gain", "mean"), own_gain=("own", "mean"), clearly_helps=("lower", "mean"))
    return found.assign(share=found.gain / found.own_gain)


def cross_compression(table: pd.DataFrame) -> Verdict:
    """C6 in three parts: prompts help at other levels; across families too; from more to less compressed better than back."""
    says = "a prompt learned at one level helps at others, across families, best from more to less compressed"
    pairs = _pairs(table)
    across = pairs[pairs.families == "across"]
    if across.empty:
        return Verdict("C6", says, "it takes compressed levels of two families to stitch between", "not measured")
    down = _more_to_less(pairs)
    control = table.reset_index()
    control = control[(control.trained_at_level == "full") & (control.level != "full")]
    measured = (
        f"a prompt of another level clearly helps in {pairs.lower.sum():.0f} of {len(pairs)} cells, across families in "
        f"{across.lower.sum():.0f} of {len(across)}; it keeps "
        f"{pairs.gain.sum() / pairs.own.sum():.0%} of the gain of the level's own prompt, that of the uncompressed model "
        f"{control.gain.sum() / _own(table, control).sum():.0%}; from more to "
        f"less compressed it keeps {-100 * down.mean:+.0f} points more than back (s.e. {100 * down.stderr:.0f})"
    )
    return Verdict(
        "C6",
        says,
        measured,
        together([everywhere_lower(_differences(pairs)), everywhere_lower(_differences(across)), clearly(down)]),
    )


def _more_to_less(pairs: pd.DataFrame) -> Difference:
    """Share of the own gain kept from less to more compressed, less that kept from more to less: below zero, more to less is better.

    Over pairs of levels whose own prompts gain at least four standard errors, so that a share of it means something.
    """
    solid = pairs[pairs.own < -4 * pairs.own_stderr].assign(share=lambda rows: rows.gain / rows.own)
    share = solid.set_index(["source", "level"]).share
    costs = solid.set_index("level").cost.to_dict()
    back = [share[less, more] - share[more, less] for more in costs for less in costs if costs[more] > costs[less]]
    if len(back) < 2:
        return Difference(math.nan, math.nan)
    return Difference(statistics.fmean(back), statistics.stdev(back) / math.sqrt(len(back)))


def _own(table: pd.DataFrame, transfers: pd.DataFrame, what: str = "gain") -> pd.Series:
    """The gain (or its standard error) of the own prompt of each transfer's level."""
    return transfers.level.map({level: table[what][level, level] for level in transfers.level})


def _pairs(table: pd.DataFrame) -> pd.DataFrame:
    flat = table.reset_index().rename(columns={"trained_at_level": "source"})
    cost = flat.drop_duplicates("level").set_index("level").cost
    flat = flat.assign(own=_own(table, flat), own_stderr=_own(table, flat, "gain_stderr"))
    flat = flat[(flat.source != "full") & (flat.level != "full") & (flat.source != flat.level)]
    more = flat.source.map(cost) > flat.level.map(cost)
    kin = flat.source.map(_family) == flat.level.map(_family)
    lower = [gain.lower for gain in _differences(flat)]
    return flat.assign(
        direction=more.map({True: "more to less", False: "less to more"}),
        families=kin.map({True: "within", False: "across"}),
        lower=lower,
    )


def _family(level: str) -> str:
    return Level.parse(level).family


# --------------------------------------------------------------------------------------------------- C7, tasks


def task_table(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """One row a task and level: accuracy without and with the prompt (a mean over seeds), and the paired ``difference`` of the
    two with its interval, ``low`` to ``high``, which holds for all rows together with 95 % confidence (Bonferroni).
    """
    found: dict[tuple[str, str], dict[str, list[Mapping[str, Any]]]] = {}
    for row in rows:
        found.setdefault((row["task"], row["level"]), {}).setdefault(row["method"], []).append(row)
    table = {}
    for at, methods in found.items():
        (none,), prompted = methods["none"], methods["soft_prompt"]
        units = unit_means(row["units"] for row in prompted)
        difference, low, high = paired_bootstrap(units, none["units"], confidence=1 - 0.05 / len(found))
        table[at] = {
            "none": none["value"], "none_stderr": none["stderr"], "soft_prompt": statistics.fmean(row["value"] for row in prompted),
            "difference": difference, "low": low, "high": high, "n": none["n"],
        }  # fmt: skip
    return pd.DataFrame.from_dict(table, orient="index").rename_axis(["task", "level"])


def cross_task(table: pd.DataFrame) -> Verdict:
    """C7: on which tasks and compressed levels the prompt clearly raises accuracy."""
    compressed = table[table.index.get_level_values("level") != "full"]
    better, worse = compressed.low > 0, compressed.high < 0
    by_task = "; ".join(
        f"{task} {100 * rows.difference.mean():+.1f} points" for task, rows in compressed.groupby(level="task", sort=False)
    )
    measured = (
        f"accuracy is clearly higher in {better.sum()} of {len(compressed)} cells and clearly lower in {worse.sum()} "
        f"(mean over levels: {by_task})"
    )
    return Verdict("C7", "the prompt of a broad corpus helps zero-shot tasks", measured, counted(better))


# -------------------------------------------------------------------------------------------------- C8, LoRA


def comparison_table(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """One row a (level, method, point, evaluated_on), learning rates at their best: trainable parameters, perplexity over seeds
    with its extremes, and the gain over the same model with nothing learned.
    """
    rows = list(rows)
    none = {(row["level"], row["evaluated_on"]): row for row in rows if row["method"] == "none"}
    found: dict[tuple[str, str, str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        if row.get("best_rate"):
            found.setdefault((row["level"], row["method"], row["point"], row["evaluated_on"]), []).append(row)
    table = []
    for (level, method, point, corpus), runs in found.items():
        gain, ppl = over_seeds(runs, [none[level, corpus]]), [row["ppl"] for row in runs]
        table.append(
            {
                "level": level,
                "method": method,
                "point": point,
                "evaluated_on": corpus,
                "trainable_parameters": runs[0]["trainable_parameters"],
                "validation_nll": statistics.fmean(row["validation_nll"] for row in runs),
                "ppl_none": none[level, corpus]["ppl"],
                "ppl": statistics.fmean(ppl),
                "seeds_low": min(ppl),
                "seeds_high": max(ppl),
                "gain": gain.mean,
                "gain_stderr": gain.stderr,
                "runs": runs,
            }
        )
    return pd.DataFrame(table)


def nearest_lora(table: pd.DataFrame) -> pd.DataFrame:
    """Every prompt beside the LoRA of nearest size at the same level, on the same corpus: ``lead`` is the paired difference of
    their NLL (negative is better for the prompt), with its standard error.
    """
    prompts, loras = (table[table.method == method] for method in ("soft_prompt", "lora"))
    pairs = prompts.merge(loras, on=["level", "evaluated_on"], suffixes=("", "_lora"))
    distance = (pairs.trainable_parameters / pairs.trainable_parameters_lora).map(lambda ratio: abs(math.log(ratio)))
    pairs = pairs.loc[distance.groupby([pairs.level, pairs.evaluated_on, pairs.point]).idxmin()]
    leads = [over_seeds(row.runs, row.runs_lora) for row in pairs.itertuples()]
    return pairs.assign(lead=[lead.mean for lead in leads], lead_stderr=[lead.stderr for lead in leads])


def comparison(table: pd.DataFrame, *, broad: str) -> Verdict:
    """C8 in three parts, at compressed levels: the prompt that is best on validation clearly beats the LoRA that is, on the corpus of
    training; on the others; and has fewer parameters.
    """
    compressed = table[table.level != "full"]
    here, elsewhere, fewer = [], [], []
    for _, rows in compressed.groupby("level", sort=False):
        prompt, lora = (_best_on_validation(rows[rows.method == method]) for method in ("soft_prompt", "lora"))
        fewer.append(prompt.trainable_parameters.iloc[0] < lora.trainable_parameters.iloc[0])
        for corpus, runs in prompt.runs.items():
            (here if corpus == broad else elsewhere).append(over_seeds(runs, lora.runs[corpus]))
    if not here:
        return Verdict("C8", C8, "no compressed level was compared", "not measured")
    equal = nearest_lora(table)
    equal = equal[equal.evaluated_on == broad]
    seeds = min(len(runs) for runs in compressed.runs)
    measured = (
        f"chosen on validation, the best prompt against the best LoRA: {statistics.fmean(d.mean for d in here):+.3f} nats on {broad}, "
        f"{statistics.fmean(d.mean for d in elsewhere):+.3f} elsewhere; at about equal parameters {equal[equal.level != 'full'].lead.mean():+.3f} on "
        f"compressed models, {equal[equal.level == 'full'].lead.mean():+.3f} on the uncompressed one (below zero the prompt is better; "
        f"{seeds} seed{'s' if seeds > 1 else ''})"
    )
    return Verdict("C8", C8, measured, together([everywhere_lower(here), everywhere_lower(elsewhere), counted(fewer)]))


C8 = "a soft prompt beats LoRA on the same compressed model, with fewer parameters, also when transferred"


def _best_on_validation(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of the point with the lowest validation NLL, by corpus; validation is on the corpus of training alone."""
    return rows[rows.point == rows.loc[rows.validation_nll.idxmin()].point].set_index("evaluated_on")


# ---------------------------------------------------------------------------------------------- the metric, and C9


def audit_table(rows: Iterable[Mapping[str, Any]], *, none: float, full: float) -> pd.DataFrame:
    """One row a prompt length, learned and untrained: exact and released perplexity, and the share each would call recovered."""
    table = pd.DataFrame(
        {
            "prompt": row["prompt_kind"],
            "prompt_tokens": row["prompt_tokens"],
            "ppl": row["ppl"],
            "ppl_released": row["ppl_released"],
            "recovered": recovered_share(none, row["ppl"], full),
            "recovered_released": recovered_share(none, row["ppl_released"], full),
        }
        for row in rows
    )
    return table.groupby(["prompt", "prompt_tokens"], as_index=False).mean().sort_values(["prompt", "prompt_tokens"])


LEADS = 0.01
"""A published perplexity is ahead of another when it is lower by more than this share."""


def metric(ours: pd.DataFrame, theirs: pd.DataFrame, *, none: float, full: float) -> Verdict:
    """Whether the released code's figure may be compared between models with and without a prompt."""
    untrained = ours[ours.prompt == "untrained"].iloc[-1]
    fooled = (ours.ppl_released < none) & (ours.ppl >= none)
    leads = (theirs.lora / theirs.exact).map(math.log) > LEADS
    measured = (
        f"an untrained prompt of {untrained.prompt_tokens:.0f} vectors takes the exact perplexity from {none:.2f} to {untrained.ppl:.2f} and "
        f"the released figure to {untrained.ppl_released:.2f} (uncompressed: {full:.2f}); {fooled.sum()} of {len(ours)} prompts look better than "
        f"none and are not; of the paper's {len(theirs)} leads over LoRA {leads.sum()} exceed {LEADS:.0%} if they were printed by the "
        f"released code with n = 100 and L = 1,024, which cannot be known from outside"
    )
    same = (ours.ppl_released / ours.ppl).sub(1).abs().max() < 1e-6
    says = "the released code's perplexities with and without a prompt can be compared"
    return Verdict("metric", says, measured, "holds" if same else "does not hold")


def transfer_savings(costs: pd.DataFrame, transfers: pd.DataFrame) -> pd.DataFrame:
    """A prompt of its own for every compressed level, against that of the costliest level for all: trainings, seconds, gain kept.

    ``costs`` has level, work, seconds; ``transfers`` is that of :func:`transfer_table` over (trained_at_level, level).
    """
    seconds = costs[costs.work == "train"].groupby("level").seconds.mean()
    gains = transfers.gain.unstack("level")
    levels = [level for level in gains.columns if level != "full"]
    own = pd.Series({level: gains.loc[level, level] for level in levels})
    best = max(levels, key=lambda level: transfers.cost[level, level])
    return pd.DataFrame(
        {
            "trainings": [len(levels), 1],
            "seconds": [seconds[levels].sum(), seconds[best]],
            "share_of_gain": [1.0, gains.loc[best, levels].sum() / own.sum()],
        },
        index=["a prompt for every level", f"one prompt, learned at {best}"],
    )


def cost(steps: pd.DataFrame, transfer: pd.DataFrame) -> Verdict:
    """C9: does a step of the prompt (the first row) keep fewer bytes of activations than one of LoRA and of full fine-tuning?

    Seconds are told and not judged: they differ from run to run.
    """
    prompt, *others = (row for row in steps.itertuples())
    parts = ["holds" if prompt.activation_bytes < other.activation_bytes else "does not hold" for other in others]
    against = "; ".join(
        f"{other.method} {other.activation_bytes / prompt.activation_bytes:.2f} times the bytes and {other.seconds / prompt.seconds:.2f} "
        "times the seconds"
        for other in others
    )
    one = transfer.iloc[1]
    measured = (
        f"{prompt.method}: {prompt.activation_bytes / 1e6:.0f} MB of activations kept, {prompt.seconds:.2f} s a step; {against}; "
        f"{transfer.index[1]} keeps {one.share_of_gain:.0%} of the gain for {one.seconds / transfer.seconds.iloc[0]:.0%} of the seconds"
    )
    return Verdict(
        "C9", "a prompt needs input gradients only, and keeps fewer activations than LoRA or fine-tuning", measured, together(parts)
    )


# ------------------------------------------------------------------------------ C11, another model, and C12, reading prompts


def another_model_table(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """One row a level and prompt_kind (own, stitched, untrained): perplexity, the gain over no prompt and over an untrained one."""
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault((row["level"], row["prompt_kind"]), []).append(row)
    table = {}
    for (level, kind), runs in found.items():
        if kind != "none":
            gain, beyond = over_seeds(runs, found[level, "none"]), over_seeds(runs, found[level, "untrained"])
            table[level, kind] = {
                "ppl_none": found[level, "none"][0]["ppl"],
                "ppl": statistics.fmean(row["ppl"] for row in runs),
                "gain": gain.mean,
                "gain_stderr": gain.stderr,
                "beyond_untrained": beyond.mean,
                "beyond_untrained_stderr": beyond.stderr,
            }
    return pd.DataFrame.from_dict(table, orient="index").rename_axis(["level", "prompt_kind"])


def another_model(table: pd.DataFrame) -> Verdict:
    """C11: does the stitched prompt clearly lower the other model's perplexity, and clearly more than an untrained one, everywhere?"""
    stitched, own, untrained = (table.xs(kind, level="prompt_kind") for kind in ("stitched", "own", "untrained"))
    beyond = _differences(stitched, "beyond_untrained")
    measured = (
        f"stitched to another model, the prompt changes its NLL by {stitched.gain.min():+.3f} to {stitched.gain.max():+.3f} nats (clearly lower "
        f"at {sum(gain.lower for gain in _differences(stitched))} of {len(stitched)} levels), the model's own prompt by {own.gain.min():+.3f} to "
        f"{own.gain.max():+.3f}, an untrained one by {untrained.gain.min():+.3f} to {untrained.gain.max():+.3f}"
    )
    says = "a prompt works on another model with the same tokenizer and width"
    return Verdict("C11", says, measured, together([everywhere_lower(_differences(stitched)), everywhere_lower(beyond)]))


def reading(moves: pd.DataFrame, agreement: pd.DataFrame) -> Verdict:
    """C12: do prompts of different seeds come to name the same tokens clearly more often than random directions do?

    The seed pairs are the independent observations; levels share their seeds' starts and texts.
    """
    says = "a learned prompt can be read by its nearest vocabulary embeddings"
    if len(agreement) < 2:
        return Verdict("C12", says, "it takes three seeds or more to see whether they agree", "not measured")
    more = agreement.by_chance - agreement.shared
    difference = Difference(more.mean(), more.std() / math.sqrt(len(more)))
    measured = (
        f"vectors move {moves.moved.median():.1f} times their length (cosine to the start {moves.cosine_to_start.median():.2f}); "
        f"{moves.still_start.mean():.0%} stay nearest to the token they started from; of the tokens that the others name, prompts of two "
        f"seeds share {agreement.shared.mean():.2f}, random directions {agreement.by_chance.mean():.2f}"
    )
    return Verdict("C12", says, measured, clearly(difference))


# --------------------------------------------------------------------------------------------------- the ledger


def ledger(settings: Study) -> pd.DataFrame:
    """All verdicts on the models of the study: model, claim, says, measured, verdict. The embedded study does not judge C10."""
    found = [
        {"model": model, **json.loads(path.read_text(encoding="utf-8"))}
        for model in settings.study.models
        for path in sorted(
            places.claim_path(settings, model, "any").parent.glob("*.json"), key=lambda path: (len(path.stem), path.stem)
        )
        if path.stem != "C11" or settings.another_model.asks_of(model)  # else it is of another study
    ]
    return pd.DataFrame(found).rename(columns={"outcome": "verdict"})


def as_markdown(table: pd.DataFrame) -> str:
    """The ledger as a table for a page."""
    lines = ["| claim | the paper says | measured here | verdict |", "|---|---|---|---|"]
    lines += [f"| {row.claim} | {row.says} | {row.measured} | **{row.verdict}** |" for row in table.itertuples()]
    return "\n".join(lines)
