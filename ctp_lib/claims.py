"""The claims of the paper, one after the other: the table that a claim is judged by, and its verdict."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from ctp_lib.evaluation.zero_shot import paired_bootstrap
from ctp_lib.study import Level
from ctp_lib.verdicts import STANDARD_ERRORS, Difference, Verdict, clearly, everywhere_lower, over_seeds, paired_difference, together

# ----------------------------------------------------------------------------- C2, C3 and C4, what a prompt recovers


def recovered_share(none: float, prompted: float, full: float) -> float:
    """(ppl_none - ppl_prompt) / (ppl_none - ppl_full): the share of the lost perplexity that is back; NaN when none was lost."""
    return (none - prompted) / (none - full) if none > full else math.nan


def recovery_table(cells: Sequence[Mapping[str, Any]], *, evaluated_on: str) -> pd.DataFrame:
    """One row a level: perplexity without and with a prompt, exact and as released, and what the prompt recovers.

    Figures with a prompt are means over seeds, ``seeds_low`` and ``seeds_high`` the extremes of the exact one. ``gain`` is the
    difference in NLL (nats a token, negative is better) of :func:`over_seeds`.
    """
    rows: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for cell in cells:
        for row in cell["perplexity"]:
            if row["evaluated_on"] == evaluated_on:
                rows.setdefault((cell["cell"]["level"], row["method"]), []).append(row)
    bits = {cell["cell"]["level"]: cell["manifest"]["bits_per_weight"] for cell in cells if "manifest" in cell}
    full = rows["full", "none"][0]
    table = {}
    for level in bits:
        (none,), prompted = rows[level, "none"], rows[level, "soft_prompt"]
        gain, above = over_seeds(prompted, none), over_seeds(prompted, full)
        exact = [row["ppl"] for row in prompted]
        table[level] = {
            "bits_per_weight": bits[level],
            "ppl_none": none["ppl"],
            "ppl_soft_prompt": statistics.fmean(exact),
            "seeds_low": min(exact),
            "seeds_high": max(exact),
            "ppl_released": statistics.fmean(row["ppl_released"] for row in prompted),
            "recovered": recovered_share(none["ppl"], statistics.fmean(exact), full["ppl"]),
            "gain": gain.mean,
            "gain_stderr": gain.stderr,
            "above_full": above.mean,
            "above_full_stderr": above.stderr,
        }
    return pd.DataFrame.from_dict(table, orient="index").rename_axis("level")


MILD = 0.10
"""A level is mild when it costs at most this share in perplexity."""


def recovery(table: pd.DataFrame) -> list[Verdict]:
    """C2 over all compressed levels, and C3 over the mild ones: is the prompted model clearly no worse than the uncompressed one?"""
    compressed = table.drop(index="full")
    gains = [Difference(row.gain, row.gain_stderr) for row in compressed.itertuples()]
    shares = compressed.recovered
    second = (
        f"the prompt clearly lowers the perplexity at {sum(gain.lower for gain in gains)} of {len(gains)} levels and gives back "
        f"{shares.min():.0%} to {shares.max():.0%} of what compression took"
    )
    mild = compressed[compressed.ppl_none <= (1 + MILD) * table.ppl_none["full"]]
    above = [Difference(-row.above_full, row.above_full_stderr) for row in mild.itertuples()]
    reached = sum(not difference.lower for difference in above)
    released = (mild.ppl_released <= table.ppl_none["full"]).sum()
    third = (
        f"of {len(mild)} mild levels ({', '.join(mild.index)}) {reached} reach the uncompressed model; by the released code's formula "
        f"{released} would; the uncompressed model itself gains {-table.gain['full']:.4f} nats from a prompt"
    )
    outcome = "holds" if reached == len(mild) else "mixed" if reached else "does not hold"
    return [
        Verdict("C2", "a soft prompt lowers the perplexity of the compressed model at every level", second, everywhere_lower(gains)),
        Verdict("C3", "at mild levels the prompted compressed model matches or beats the uncompressed one", third, outcome),
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
            "megabytes_with_prompt": (manifest["stored_bytes"] + 2 * vectors) / 1e6,
        }
        for level, manifest in manifests.items()
    )
    return table.join(recovered[["ppl_none", "ppl_soft_prompt", "recovered"]], on="level")


def joint(sizes: pd.DataFrame, recovered: pd.DataFrame) -> list[Verdict]:
    """C4 for every joint level of the study: is it as small as bits and sparsity promise, and does a prompt lower its perplexity?"""
    found = []
    for row in sizes.itertuples():
        level = Level.parse(row.level)
        if level.family == "joint":
            promised = 16 / (level.bits * (1 - level.sparsity))
            gain = Difference(recovered.gain[row.level], recovered.gain_stderr[row.level])
            measured = (
                f"{row.level} is {row.times_smaller:.2f} times smaller, not {promised:.0f} ({row.bits_per_weight:.2f} bits a weight with mask, scales and zero "
                f"points); the prompt changes its NLL by {gain.mean:+.4f} nats (s.e. {gain.stderr:.4f}) and gives back {row.recovered:.0%}"
            )
            smaller = "holds" if row.times_smaller >= 0.95 * promised else "does not hold"
            found.append(Verdict("C4", "the joint model is 8 times smaller and a prompt recovers it too", measured, together([clearly(gain), smaller])))
    return found


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
    """C1: at which compressed levels a prompt of the paper clearly beats neutral text of equal length."""
    paper = table[[prompt.startswith("paper") and level != "full" for level, prompt in table.index]]
    best = [
        min((Difference(row.beats_neutral, row.beats_neutral_stderr) for row in rows.itertuples()), key=lambda d: d.mean + STANDARD_ERRORS * d.stderr)
        for _, rows in paper.groupby(level="level", sort=False)
    ]
    measured = (
        f"the paper's prompts help {paper.helped.min():.0%} to {paper.helped.max():.0%} of the items, a neutral text of equal length "
        f"{paper.helped_by_neutral.min():.0%} to {paper.helped_by_neutral.max():.0%}; they clearly beat it at {sum(d.lower for d in best)} of {len(best)} levels"
    )
    return Verdict("C1", "a hard prompt improves some answers of a compressed model", measured, everywhere_lower(best))


# ------------------------------------------------------------------------------------ C5 and C6, transfer of prompts


def transfer_table(
    rows: Iterable[Mapping[str, Any]], *, levels: Sequence[str], by: str, evaluated_on: str | None = None
) -> pd.DataFrame:
    """What every prompt does at every level: index (``by``, level, evaluated_on), without the last where only one corpus is asked for.

    ``by`` names where a prompt was learned, ``trained_on`` or ``trained_at_level``. ``gain`` is the difference in NLL to the same
    model without a prompt (nats a token, negative is better) by :func:`over_seeds`.
    """
    none: dict[tuple[str, str], Mapping[str, Any]] = {}
    prompted: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["level"] in levels and evaluated_on in (None, row["evaluated_on"]):
            at = row["level"], row["evaluated_on"]
            if row["method"] == "none":
                none[at] = row
            else:
                prompted.setdefault((row[by], *at), []).append(row)
    table = {}
    for (source, level, corpus), found in prompted.items():
        control, full = none[level, corpus], none["full", corpus]
        gain, ppl = over_seeds(found, control), statistics.fmean(row["ppl"] for row in found)
        table[(source, level, corpus) if evaluated_on is None else (source, level)] = {
            "ppl_full": full["ppl"],
            "ppl_none": control["ppl"],
            "ppl": ppl,
            "cost": control["nll"] - full["nll"],
            "recovered": recovered_share(control["ppl"], ppl, full["ppl"]),
            "gain": gain.mean,
            "gain_stderr": gain.stderr,
            "seeds": len(found),
        }
    names = [by, "level", *(() if evaluated_on else ("evaluated_on",))]
    return pd.DataFrame.from_dict(table, orient="index").rename_axis(names)


def _gains(table: pd.DataFrame) -> list[Difference]:
    return [Difference(row.gain, row.gain_stderr) for row in table.itertuples()]


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
    better = [Difference(row.gain - row.gain_transferred, math.hypot(row.gain_stderr, row.gain_stderr_transferred)) for row in both.itertuples()]
    helps, spoilt = _gains(transferred), [gain.lower for gain in _gains(elsewhere)]
    parts = {
        "helps": everywhere_lower(helps),
        "better": everywhere_lower(better),
        "alone": "holds" if not any(spoilt) else "mixed" if not all(spoilt) else "does not hold",
    }
    measured = (
        f"the {broad} prompt clearly helps in {sum(gain.lower for gain in helps)} of {len(helps)} cells of other corpora (mean {transferred.gain.mean():+.3f} "
        f"nats); a prompt learned there is clearly better in {sum(d.lower for d in better)} of {len(better)} (mean {direct.gain.mean():+.3f}); taken to yet another "
        f"corpus it clearly helps in {sum(spoilt)} of {len(spoilt)} (mean {elsewhere.gain.mean():+.3f})"
    )
    return Verdict("C5", "a prompt learned on a broad corpus helps on others; one learned directly is better there and does not transfer", measured, together(parts.values()))


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
    pairs = _pairs(table)
    across = pairs[pairs.families == "across"]
    normalised = pairs.assign(share=pairs.gain / pairs.own).set_index(["source", "level"]).share
    costs = pairs.set_index("level").cost.to_dict()
    back = [
        normalised[less, more] - normalised[more, less]
        for more in costs for less in costs if costs[more] > costs[less]
    ]  # fmt: skip
    down = Difference(statistics.fmean(back), statistics.stdev(back) / math.sqrt(len(back))) if len(back) > 1 else Difference(0.0, 0.0)
    parts = [everywhere_lower(_gains(pairs)), everywhere_lower(_gains(across)) if len(across) else "does not hold", clearly(down)]
    control = table.reset_index()
    control = control[(control.trained_at_level == "full") & (control.level != "full")]
    measured = (
        f"a prompt of another level clearly helps in {pairs.lower.sum()} of {len(pairs)} cells, across families in {across.lower.sum()} of {len(across)}; it keeps "
        f"{pairs.gain.sum() / pairs.own.sum():.0%} of the gain of the level's own prompt; from more to less compressed it keeps "
        f"{-100 * down.mean:+.0f} points more than back (s.e. {100 * down.stderr:.0f}); the prompt of the uncompressed model keeps {control.gain.sum() / _own(table, control).sum():.0%}"
    )
    return Verdict("C6", "a prompt learned at one level helps at others, across families, best from more to less compressed", measured, together(parts))


def _own(table: pd.DataFrame, transfers: pd.DataFrame) -> pd.Series:
    """The gain of the own prompt of each transfer's level."""
    return transfers.level.map({level: table.gain[level, level] for level in transfers.level})


def _pairs(table: pd.DataFrame) -> pd.DataFrame:
    flat = table.reset_index().rename(columns={"trained_at_level": "source"})
    cost = flat.drop_duplicates("level").set_index("level").cost
    flat["own"] = _own(table, flat)
    flat = flat[(flat.source != "full") & (flat.level != "full") & (flat.source != flat.level)]
    more = flat.source.map(cost) > flat.level.map(cost)
    kin = flat.source.map(_family) == flat.level.map(_family)
    lower = [gain.lower for gain in _gains(flat)]
    return flat.assign(
        direction=more.map({True: "more to less", False: "less to more"}), families=kin.map({True: "within", False: "across"}), lower=lower
    )


def _family(level: str) -> str:
    return Level.parse(level).family


# --------------------------------------------------------------------------------------------------- C7, tasks


def task_table(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """One row a task and level: accuracy without and with the prompt (a mean over seeds), and the paired ``difference`` of the
    two with its 95 % interval, ``low`` to ``high``.
    """
    found: dict[tuple[str, str], dict[str, list[Mapping[str, Any]]]] = {}
    for row in rows:
        found.setdefault((row["task"], row["level"]), {}).setdefault(row["method"], []).append(row)
    table = {}
    for at, methods in found.items():
        (none,), prompted = methods["none"], methods["soft_prompt"]
        units = [statistics.fmean(unit) for unit in zip(*(row["units"] for row in prompted), strict=True)]
        difference, low, high = paired_bootstrap(units, none["units"])
        table[at] = {
            "none": none["value"], "none_stderr": none["stderr"], "soft_prompt": statistics.fmean(row["value"] for row in prompted),
            "difference": difference, "low": low, "high": high, "n": none["n"],
        }  # fmt: skip
    return pd.DataFrame.from_dict(table, orient="index").rename_axis(["task", "level"])


def cross_task(table: pd.DataFrame) -> Verdict:
    """C7: on which tasks and compressed levels the prompt clearly raises accuracy."""
    compressed = table[table.index.get_level_values("level") != "full"]
    better, worse = compressed.low > 0, compressed.high < 0
    by_task = "; ".join(f"{task} {100 * rows.difference.mean():+.1f} points" for task, rows in compressed.groupby(level="task", sort=False))
    measured = (
        f"accuracy is clearly higher in {better.sum()} of {len(compressed)} cells and clearly lower in {worse.sum()} "
        f"(mean over levels: {by_task})"
    )
    outcome = "holds" if better.all() else "mixed" if better.any() else "does not hold"
    return Verdict("C7", "the prompt of a broad corpus helps zero-shot tasks", measured, outcome)


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
        gain, ppl = over_seeds(runs, none[level, corpus]), [row["ppl"] for row in runs]
        table.append(
            {
                "level": level, "method": method, "point": point, "evaluated_on": corpus,
                "trainable_parameters": runs[0]["trainable_parameters"], "ppl_none": none[level, corpus]["ppl"],
                "ppl": statistics.fmean(ppl), "seeds_low": min(ppl), "seeds_high": max(ppl), "gain": gain.mean, "gain_stderr": gain.stderr,
            }  # fmt: skip
        )
    return pd.DataFrame(table)


def nearest_lora(table: pd.DataFrame) -> pd.DataFrame:
    """Every prompt beside the LoRA of nearest size at the same level, on the same corpus: ``lead`` is how much lower the
    prompt's NLL is (negative is better for the prompt), with its standard error.
    """
    prompts, loras = (table[table.method == method] for method in ("soft_prompt", "lora"))
    pairs = prompts.merge(loras, on=["level", "evaluated_on"], suffixes=("", "_lora"))
    distance = (pairs.trainable_parameters / pairs.trainable_parameters_lora).map(lambda ratio: abs(math.log(ratio)))
    pairs = pairs.loc[distance.groupby([pairs.level, pairs.evaluated_on, pairs.point]).idxmin()]
    return pairs.assign(lead=pairs.gain - pairs.gain_lora, lead_stderr=(pairs.gain_stderr**2 + pairs.gain_stderr_lora**2) ** 0.5)


def comparison(table: pd.DataFrame, *, broad: str) -> Verdict:
    """C8 in two parts, at compressed levels: on the corpus of training and elsewhere, the best prompt clearly beats the best LoRA."""
    compressed = table[table.level != "full"]
    here, elsewhere = ([_lead(rows) for _, rows in part.groupby(["level", "evaluated_on"])] for part in (compressed[compressed.evaluated_on == broad], compressed[compressed.evaluated_on != broad]))
    equal = nearest_lora(table)
    equal = equal[equal.evaluated_on == broad]
    on_full, on_compressed = equal[equal.level == "full"], equal[equal.level != "full"]
    measured = (
        f"best prompt against best LoRA: {statistics.fmean(d.mean for d in here):+.3f} nats on {broad}, {statistics.fmean(d.mean for d in elsewhere):+.3f} elsewhere; at about equal "
        f"parameters {on_compressed.lead.mean():+.3f} on compressed models, {on_full.lead.mean():+.3f} on the uncompressed one (below zero the prompt is better)"
    )
    return Verdict("C8", "a soft prompt beats LoRA on the same compressed model, with fewer parameters, also when transferred", measured, together([everywhere_lower(here), everywhere_lower(elsewhere)]))


def _lead(rows: pd.DataFrame) -> Difference:
    prompt, lora = (rows[rows.method == method].nsmallest(1, "ppl").iloc[0] for method in ("soft_prompt", "lora"))
    return Difference(prompt.gain - lora.gain, math.hypot(prompt.gain_stderr, lora.gain_stderr))


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


def metric(ours: pd.DataFrame, theirs: pd.DataFrame, *, none: float, full: float) -> Verdict:
    """Whether the released code's figure may be compared between models with and without a prompt."""
    untrained = ours[ours.prompt == "untrained"].iloc[-1]
    fooled = (ours.ppl_released < none) & (ours.ppl >= none)
    lead = (theirs.lora / theirs.exact).map(math.log)
    measured = (
        f"an untrained prompt of {untrained.prompt_tokens:.0f} vectors takes the exact perplexity from {none:.2f} to {untrained.ppl:.2f} and the released "
        f"figure to {untrained.ppl_released:.2f} (uncompressed: {full:.2f}); {fooled.sum()} of {len(ours)} prompts look better than none and are not; of the paper's "
        f"{len(theirs)} leads over LoRA {(lead > 0.01).sum()} exceed one per cent once the averaging is undone"
    )
    return Verdict("metric", "the released code's perplexities with and without a prompt can be compared", measured, "does not hold" if fooled.any() else "holds")


def transfer_savings(costs: pd.DataFrame, transfers: pd.DataFrame) -> pd.DataFrame:
    """A prompt of its own for every compressed level, against one level's prompt for all: trainings, seconds, share of the gain kept.

    ``costs`` has level, work, seconds; ``transfers`` is that of :func:`transfer_table` over (trained_at_level, level).
    """
    seconds = costs[costs.work == "train"].groupby("level").seconds.mean()
    gains = transfers.gain.unstack("level")
    levels = [level for level in gains.columns if level != "full"]
    own = pd.Series({level: gains.loc[level, level] for level in levels})
    best = gains.loc[levels, levels].sum(axis=1).idxmin()
    return pd.DataFrame(
        {
            "trainings": [len(levels), 1],
            "seconds": [seconds[levels].sum(), seconds[best]],
            "share_of_gain": [1.0, gains.loc[best, levels].sum() / own.sum()],
        },
        index=["a prompt for every level", f"one prompt, learned at {best}"],
    )


def cost(steps: pd.DataFrame, transfer: pd.DataFrame) -> Verdict:
    """C9: does a step of the prompt keep fewer bytes and take less time than one of LoRA and of full fine-tuning?"""
    prompt, *others = (row for row in steps.itertuples())
    kept = all(prompt.activation_bytes < other.activation_bytes for other in others)
    quicker = all(prompt.seconds < other.seconds for other in others)
    against = "; ".join(
        f"{other.method}: {other.activation_bytes / prompt.activation_bytes:.2f} times the bytes, {other.seconds / prompt.seconds:.2f} times the seconds" for other in others
    )
    one = transfer.iloc[1]
    measured = (
        f"{prompt.method}: {prompt.activation_bytes / 1e6:.0f} MB kept, {prompt.seconds:.2f} s a step; {against}; {transfer.index[1]} keeps {one.share_of_gain:.0%} of the gain for "
        f"{one.seconds / transfer.seconds.iloc[0]:.0%} of the seconds"
    )
    parts = ["holds" if kept else "does not hold", "holds" if quicker else "does not hold"]
    return Verdict("C9", "a prompt needs input gradients only, and so less memory and time than LoRA or fine-tuning", measured, together(parts))
