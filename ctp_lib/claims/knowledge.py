"""Knowledge or fluency? What compression takes from memory and from reading, and what a repair gives back (after LLM-KICK)."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
import seaborn
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from ctp_lib.claims import style
from ctp_lib.claims.estimate import Estimate, gain, mean, of_runs, ratio
from ctp_lib.claims.verdict import Part, Verdict, judge
from ctp_lib.recovery import comparison
from ctp_lib.recovery.base import registry
from ctp_lib.recovery.none import METHOD as NONE
from ctp_lib.recovery.soft_prompt import METHOD as PROMPT
from ctp_lib.settings.levels import Level
from ctp_lib.settings.study import Study

MATCHES = 0.95
"""A level *matches* while it has this share of the uncompressed model's right answers (LLM-KICK, section 3)."""
NOTEBOOK = "09b_knowledge"
Table = pd.DataFrame


def table(rows: Iterable[Mapping[str, Any]]) -> Table:
    """One row per (relation, form, level, method), in shares of the items: as estimates ``accuracy`` and ``above``, what of it is above chance;
    ``exact``, where greedy writing begins with the right answer; ``remembered``, where a misleading passage did not mislead.
    """
    groups: dict[tuple[str, str, str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["relation"], row["form"], row["level"], row["method"]), []).append(row)
    found = {}
    for (relation, form, level, method), runs in groups.items():
        seeds = f"seeds of {method}, {[run['seed'] for run in runs]}" if runs[0]["trainable_parameters"] else None
        accuracy = of_runs([run["units"] for run in runs], f"facts of {relation}", seeds)
        remembered = [run["remembered"] for run in runs if run["remembered"] is not None]
        found[relation, form, level, method] = {
            "accuracy": accuracy,
            "above": accuracy - Estimate(runs[0]["chance"], {}),
            "exact": sum(run["exact"] for run in runs) / len(runs),
            "remembered": sum(remembered) / len(remembered) if remembered else float("nan"),
            "n": runs[0]["n"],
        }
    return pd.DataFrame.from_dict(found, orient="index").rename_axis(["relation", "form", "level", "method"])


def known(table: Table) -> list[str]:
    """The relations of which the uncompressed model remembers more than chance, with certainty. The others do not vote."""
    full = table.xs(("closed_book", "full", NONE.name), level=("form", "level", "method")).above
    return [relation for relation, above in full.items() if above.interval(len(full))[0] > 0]


def over_relations(table: Table, relations: Sequence[str]) -> pd.DataFrame:
    """The mean of accuracy, and of what is above chance, over ``relations``: one row per (form, level, method)."""
    rows = table[table.index.get_level_values("relation").isin(relations)]
    groups = rows.groupby(level=["form", "level", "method"], sort=False)
    return pd.DataFrame({name: groups[name].agg(lambda found: mean(list(found))) for name in ("accuracy", "above")})


def gains(prompted: Iterable[Mapping[str, Any]], none: Iterable[Mapping[str, Any]], broad: str) -> dict[str, Estimate]:
    """What the best size of a prompt gains in NLL over the level alone, in nats per token, by compressed level; rows as in notebook 11."""
    alone = {row["level"]: row for row in none if row["evaluated_on"] == broad}
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in prompted:
        if row["evaluated_on"] == broad and row["level"] != "full":
            found.setdefault(row["level"], []).append(row)
    best = {level: comparison.best_size(rows) for level, rows in found.items()}
    return {level: gain([row for row in rows if row["point"] == best[level]], [alone[level]]) for level, rows in found.items()}


def verdicts(table: Table, gains: Mapping[str, Estimate], margin: float, nats: float) -> list[Verdict]:
    """What LLM-KICK says, and whether a prompt restores knowledge. ``gains`` are those of a prompt in NLL, by level."""
    means = over_relations(table, known(table)) if known(table) else None
    return [
        _falls_first(means, margin),
        _costs_more(means, margin),
        _patterns_fail(means),
        _reading_survives(means),
        _restores(means, gains, margin, nats),
    ]


def _kept(means: pd.DataFrame, form: str, level: str) -> Estimate:
    """The share of what is above chance that a level keeps of the uncompressed model's."""
    return ratio(means.above[form, level, NONE.name], means.above[form, "full", NONE.name])


def _matches(means: pd.DataFrame, form: str, level: str) -> Estimate:
    return means.accuracy[form, level, NONE.name] - MATCHES * means.accuracy[form, "full", NONE.name]


def _levels(means: pd.DataFrame | None, asked: Callable[[Level], bool] = lambda level: level.family != "full") -> list[str]:
    if means is None:
        return []
    alone = means.xs(NONE.name, level="method").index.get_level_values("level")
    return [level for level in dict.fromkeys(alone) if asked(Level.parse(level))]


def _told(
    claim: str, says: str, parts: Sequence[Part], yes: str, no: str, figures: str = "after LLM-KICK (Jaiswal et al. 2023)"
) -> Verdict:
    return Verdict(claim, says, parts[0].told(yes, no), tuple(parts), figures, NOTEBOOK)


def _falls_first(means: pd.DataFrame | None, margin: float) -> Verdict:
    effects = {level: _kept(means, "in_context", level) - _kept(means, "closed_book", level) for level in _levels(means)}
    part = judge("a level keeps more of reading than of memory", effects, margin, "of what is above chance")
    return _told("K1", "compression takes knowledge before it takes reading", [part], "Takes knowledge first", "does not")


def _costs_more(means: pd.DataFrame | None, margin: float) -> Verdict:
    families = {family: _levels(means, lambda level, family=family: level.family == family) for family in ("quantised", "pruned")}
    effects = {}
    if all(families.values()):
        kept = {family: mean([_kept(means, "closed_book", level) for level in levels]) for family, levels in families.items()}
        effects = {"": kept["quantised"] - kept["pruned"]}
    part = judge("quantised levels keep more knowledge than pruned ones", effects, margin, "of what is above chance")
    return _told("K2", "pruning costs more knowledge than quantising", [part], "Costs more", "does not cost more")


def _patterns_fail(means: pd.DataFrame | None) -> Verdict:
    levels = _levels(means, lambda level: level.pattern is not None)
    part = judge(
        "below 95 % of the uncompressed accuracy", {level: -1.0 * _matches(means, "closed_book", level) for level in levels}, 0.0
    )
    return _told("K3", "pruning n of m weights never matches the uncompressed model's knowledge", [part], "Fails", "does not fail")


def _reading_survives(means: pd.DataFrame | None) -> Verdict:
    part = judge(
        "at least 95 % of the uncompressed accuracy", {level: _matches(means, "in_context", level) for level in _levels(means)}, 0.0
    )
    return _told("K4", "reading from a given passage survives compression", [part], "Survives", "does not survive")


def _restores(means: pd.DataFrame | None, gains: Mapping[str, Estimate], margin: float, nats: float) -> Verdict:
    found = {} if means is None else means.accuracy.xs("closed_book", level="form").to_dict()
    prompted = [level for level in gains if (level, PROMPT.name) in found]
    change = {level: found[level, PROMPT.name] - found[level, NONE.name] for level in prompted}
    parts = (
        judge("a prompt lowers NLL", {level: gains[level] for level in prompted}, nats),
        judge("it brings no knowledge back", {level: -1.0 * value for level, value in change.items()}, -margin, "of the items"),
    )
    says = "(our question) a prompt restores fluency but not knowledge"
    shown = "; ".join(f"{level} {value.mean:+.3f}" for level, value in change.items())
    return _told("K5", says, parts, "Restores fluency", "does not", f"change in closed-book accuracy: {shown or 'not measured'}")


def figure(table: Table, settings: Study, uncompressed: str) -> Figure:
    """Knowledge across, reading upwards, a panel per relation: a point a level; an arrow leads from a compressed model to the repaired one."""
    style.use()
    relations = list(table.index.unique("relation"))
    figure, axes = plt.subplots(1, len(relations), figsize=(6.2 * len(relations) + 1.5, 5.2), squeeze=False, layout="constrained")
    shown = table.assign(value=[found.mean for found in table.accuracy]).value
    for axis, relation in zip(axes[0], relations, strict=True):
        points = pd.DataFrame({form: shown[relation, form] for form in ("closed_book", "in_context")})
        for (level, method), point in points.iterrows():
            own, place = registry(settings).get(method), (point.closed_book, point.in_context)
            if method != NONE.name:
                alone = points.loc[level, NONE.name]
                arrow = {"arrowstyle": "->", "color": own.colour, "lw": 1.6}
                axis.annotate("", place, xytext=(alone.closed_book, alone.in_context), arrowprops=arrow)
                axis.plot(*place, "o", color=own.colour, markersize=5, label=own.label.removeprefix("compressed + "))
                continue
            colour = style.UNCOMPRESSED if level == "full" else NONE.colour
            axis.plot(*place, "s" if level == "full" else "o", color=colour)
            said = uncompressed if level == "full" else level
            axis.annotate(said, place, xytext=(6, 4), textcoords="offset points", fontsize=9, color=colour)
        axis.axvline(0.25, color=style.NEUTRAL, linestyle=":", linewidth=1)
        axis.axhline(0.25, color=style.NEUTRAL, linestyle=":", linewidth=1)
        axis.set(title=relation, xlabel="from memory: share of right answers", ylabel="from a passage: share of right answers")
        axis.margins(0.15)
    handles = dict(reversed(list(zip(*axes[0][-1].get_legend_handles_labels()[::-1], strict=True))))
    if handles:
        figure.legend(handles.values(), handles.keys(), frameon=False, loc="outside lower center", ncols=4)
    seaborn.despine(figure)
    return figure
