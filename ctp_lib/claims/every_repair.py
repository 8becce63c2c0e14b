"""Which repair for which damage: every method on the same compressed models, by what it adds, what it takes to learn and to run."""

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from ctp_lib.claims.estimate import Row, Rows, gain, grouped, mean_of
from ctp_lib.claims.style import number
from ctp_lib.claims.verdict import Verdict, judge, together
from ctp_lib.recovery import comparison
from ctp_lib.recovery.base import registry
from ctp_lib.recovery.soft_prompt import METHOD as PROMPT
from ctp_lib.settings.levels import Level
from ctp_lib.settings.study import Study

PUBLISHED = {
    "DePT": "published: 85.9 on GLUE with T5-base (Shi & Lipani 2023)",
    "DSnoT": "published: LLaMA-7B at 70%, Wanda 88.84, with DSnoT 62.05 (Zhang et al. 2023)",
    "EoRA": "published: Llama-3-8B at 3 bits, 10.8 points more on ARC-C, 6.7 on MathQA, 11.5 on GSM8K (Liu et al. 2024)",
}
LITTLE = 0.01
"""Of the bytes of the compressed model: what still counts as little."""


def table(settings: Study, model: str, compared: Rows, none: Rows) -> pd.DataFrame:
    """One row a compressed level, method and size, on the broad corpus; ``compared`` are rows of :mod:`ctp_lib.recovery.comparison`, ``none``
    the scores of every level alone.

    Bytes added, seconds to learn once, to read a window and to write a token; perplexity, KL to the uncompressed model. As estimates in nats a
    token: ``gain`` over the level alone, ``nearer``, by how much KL falls, and both over the best of the controls: ``beyond`` and
    ``nearer_beyond``. ``best``: the size is the best of its method on validation. ``silent``: why it is not measured, if it is not.
    """
    broad, margin = settings.soft_prompt.corpus, settings.margins.nats
    alone = {row["level"]: row for row in none if row["evaluated_on"] == broad}
    asked = (row for row in compared if row["evaluated_on"] == broad and row["level"] != "full")
    groups, found = grouped(asked, "level", "method", "point"), []
    for (level, method, point), runs in groups.items():
        own, waits = registry(settings).get(method), comparison.waits(settings, model, Level.parse(level), method)
        same = [row for key, rows in groups.items() if key[:2] == (level, method) for row in rows]
        found.append(
            {
                "level": level, "method": method, "point": point, "name": own.label.removeprefix("compressed + "), "control": own.control,
                "trained": runs[0]["learning_rate"] is not None, "best": point == comparison.best_size(same),
                "bytes_added": runs[0]["bytes_added"],
                "seconds": sum(comparison.seconds(settings, model, row) for row in runs) / len(runs),
                **{work: waits.get(work, math.nan) for work in ("read", "write", "read, alone", "write, alone")},
                "ppl_alone": alone[level]["ppl"], "ppl": mean_of(runs, "ppl"), "kl_alone": alone[level]["kl"], "kl": mean_of(runs, "kl"),
                "gain": gain(runs, [alone[level]]), "nearer": gain(runs, [alone[level]], "window_kl"), "silent": _why(runs, margin),
                "runs": runs,
            }
        )  # fmt: skip
    made = pd.DataFrame(found)
    controls = made[made.control].sort_values("ppl").drop_duplicates("level").set_index("level").runs
    return made.assign(
        beyond=[gain(row.runs, controls[row.level]) for row in made.itertuples()],
        nearer_beyond=[gain(row.runs, controls[row.level], "window_kl") for row in made.itertuples()],
    )


def _why(runs: Sequence[Row], margin: float) -> str:
    edge = "a learning rate outside of those tried may be better" if runs[0]["at_edge"] else ""
    learning = "still learning when training ended" if mean_of(runs, "falling") > margin else ""
    return "; ".join(filter(None, (edge, learning)))


def outcomes(table: pd.DataFrame, margin: float) -> pd.DataFrame:
    """The best size of every repair, by level: does it beat the best control, and bring the model nearer to the uncompressed one than that does?

    ``outcome`` is that of both together; its intervals hold for all rows at once.
    """
    asked = table[table.best & ~table.control]
    names = [f"{row.level}, {row.name_}" for row in asked.rename(columns={"name": "name_"}).itertuples()]
    silent = {name: why for name, why in zip(names, asked.silent, strict=True) if why}
    parts = [
        judge(question, dict(zip(names, asked[column], strict=True)), margin, silent=silent)
        for question, column in (("beats the best control", "beyond"), ("nearer than with the best control", "nearer_beyond"))
    ]
    return asked.assign(
        outcome=[together(cell.outcome for part in parts for cell in part.cells if cell.name == name) for name in names]
    )


def advice(found: pd.DataFrame, alone: pd.DataFrame, full: float) -> list[str]:
    """Which repair for which damage, a sentence a level. ``found`` is that of :func:`outcomes`; ``alone`` has every compressed model as it is,
    with its level, ``ppl`` and ``stored_bytes``; ``full`` is the perplexity of the uncompressed model.
    """
    said = []
    stored = alone.set_index("level").stored_bytes
    for level, rows in found.groupby("level", sort=False):
        budgets = {
            "Without extra bytes": rows[rows.bytes_added == 0],
            f"With at most {LITTLE:.0%} more bytes": rows[rows.bytes_added <= LITTLE * stored[level]],
            "With any number of bytes": rows,
            "Without training": rows[~rows.trained],
        }
        before = f"{level} takes the perplexity from {number(full)} to {number(rows.ppl_alone.iloc[0])}."
        repairs = [f"{budget}: {_lowest(of)}." for budget, of in budgets.items()]
        said.append(" ".join([before, *repairs, *_better(level, alone)]))
    return said


def _lowest(rows: pd.DataFrame) -> str:
    """Of a budget: the established repair with the lowest perplexity; if there is none, the method with the lowest, and its outcome."""
    known = rows[rows.outcome == "supported"]
    if rows.empty:
        return "no method"
    row = (rows if known.empty else known).sort_values("ppl").iloc[0]
    if row.ppl >= row.ppl_alone:
        return "no method lowers the perplexity"
    found = f"{row['name']} ({row.point}), perplexity {number(row.ppl)}"
    return found if len(known) else f"{found} (not established: {row.outcome})"


def _beside(share: float) -> str:
    """``share`` of the bytes of another, in words that its name follows."""
    change = f"{abs(share - 1):.0%}"
    return "as many bytes as" if change == "0%" else f"{change} {'more' if share > 1 else 'fewer'} bytes than"


def _better(level: str, alone: pd.DataFrame) -> list[str]:
    """The best other way to compress with at most a fifth more bytes, if it beats ``level`` without a repair; ``alone`` as in :func:`advice`."""
    here, others = alone[alone.level == level].iloc[0], alone[alone.level != level]
    others = others[(others.stored_bytes <= 1.2 * here.stored_bytes) & (others.ppl < here.ppl)].sort_values("ppl")
    return [
        f"For comparison: {other.level} without a repair has perplexity {number(other.ppl)}, "
        f"and takes {_beside(other.stored_bytes / here.stored_bytes)} {level}."
        for other in others.head(1).itertuples()
    ]


def dept(table: pd.DataFrame, margin: float) -> Verdict:
    """DePT against a plain prompt of as many parameters."""
    effects, silent = {}, {}
    compared = table[table.method == "dept"].level.unique()
    for level, rows in table[table.level.isin(compared)].groupby("level", sort=False):
        prompt, other = (rows[rows.method == method].iloc[0] for method in (PROMPT.name, "dept"))
        effects[level] = gain(other.runs, prompt.runs)
        why = [f"{name}: {row.silent}" for name, row in (("DePT", other), ("prompt", prompt)) if row.silent]
        silent |= {level: "; ".join(why)} if why else {}
    part = judge("lower NLL than a plain prompt", effects, margin, silent=silent)
    says = "DePT beats a plain prompt with as many parameters"
    headline = part.told("Beats the prompt", "does not beat the prompt")
    return Verdict("DePT", says, headline, (part,), PUBLISHED["DePT"], "11_every_repair")


def dsnot(none: Rows, broad: str, margin: float) -> Verdict:
    """DSnoT against Wanda's mask, from which it starts."""
    alone = {row["level"]: row for row in none if row["evaluated_on"] == broad}
    starts = {level: f"wanda:{level.removeprefix('dsnot:')}" for level in alone if level.startswith("dsnot:")}
    pairs = {level: start for level, start in starts.items() if start in alone}
    effects = {level: gain([alone[level]], [alone[start]]) for level, start in pairs.items()}
    part = judge("lower NLL than Wanda's mask", effects, margin)
    shown = "; ".join(
        f"{start} {number(alone[start]['ppl'])}, {level} {number(alone[level]['ppl'])}" for level, start in pairs.items()
    )
    says = "DSnoT repairs a pruned model by swapping weights, without training"
    figures = "; ".join(filter(None, (shown, PUBLISHED["DSnoT"])))
    headline = part.told("Beats Wanda's mask", "does not beat Wanda's mask")
    return Verdict("DSnoT", says, headline, (part,), figures, "11_every_repair")


def eora(table: pd.DataFrame, margin: float) -> Verdict:
    """EoRA against the compressed model, the controls, and by its distance from the uncompressed model."""
    rows = table[(table.method == "eora") & table.best].set_index("level")
    questions = {
        "lower NLL than the compressed model alone": rows.gain,
        "lower NLL than the best control": rows.beyond,
        "nearer to the uncompressed model than with the best control": rows.nearer_beyond,
    }
    parts = tuple(judge(question, dict(effects), margin) for question, effects in questions.items())
    shown = "; ".join(f"{level}, {row.point}: {number(row.ppl_alone)} to {number(row.ppl)}" for level, row in rows.iterrows())
    says = "EoRA, computed from the compression error, repairs without training"
    lowers, beats, nearer = parts
    headline = (
        f"{lowers.told('Lowers the NLL', 'does not lower the NLL')}; beats controls: {beats.outcome}; nearer: {nearer.outcome}"
    )
    return Verdict("EoRA", says, headline, parts, f"{shown}; {PUBLISHED['EoRA']}", "11_every_repair")


def alone(settings: Study, none: Rows, stored: Mapping[str, Row]) -> pd.DataFrame:
    """Every compressed model as it is, on the broad corpus: level, method of compression, bits per weight, bytes, perplexity, KL."""
    broad = settings.soft_prompt.corpus
    rows = [row for row in none if row["evaluated_on"] == broad]
    return pd.DataFrame(
        {
            "level": row["level"], "by": Level.parse(row["level"]).method, "bits_per_weight": stored[row["level"]]["bits_per_weight"],
            "stored_bytes": stored[row["level"]]["stored_bytes"], "ppl": row["ppl"], "kl": row["kl"],
        }
        for row in rows
    )  # fmt: skip


def carried(table: pd.DataFrame, compared: Rows, moved: Rows, none: Rows, broad: str) -> pd.DataFrame:
    """What the best size of every method gains, in nats per token, where it was learned (``home``), at other levels and on other corpora.

    Index (level at which it was learned, name); a column a place.
    """
    alone = {(row["level"], row["evaluated_on"]): row for row in none}
    best = {(row.level, row.method): row for row in table[table.best].itertuples()}
    places: dict[tuple[str, str], dict[str, list[float]]] = {}
    for row in [*compared, *moved]:
        home = best.get((row["trained_at_level"], row["method"]))
        if home is None or row["point"] != home.point:
            continue
        at_home = row["level"] == row["trained_at_level"]
        place = f"at {row['level']}" if not at_home else "home" if row["evaluated_on"] == broad else f"on {row['evaluated_on']}"
        gained = alone[row["level"], row["evaluated_on"]]["nll"] - row["nll"]
        places.setdefault((row["trained_at_level"], home._asdict()["name"]), {}).setdefault(place, []).append(gained)
    means = {key: {place: sum(values) / len(values) for place, values in found.items()} for key, found in places.items()}
    return pd.DataFrame.from_dict(means, orient="index").rename_axis(["level", "name"])
