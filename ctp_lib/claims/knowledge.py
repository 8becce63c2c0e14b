"""Knowledge or fluency? What compression takes from memory and from reading, and what a repair gives back (after LLM-KICK)."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from ctp_lib.claims.estimate import Estimate, Row, Rows, gain, grouped, mean, of_runs, ratio
from ctp_lib.claims.verdict import Part, Verdict, judge, without_cost
from ctp_lib.evaluation.facts_items import CHOICES
from ctp_lib.evaluation.summaries import ROUGE
from ctp_lib.recovery import comparison
from ctp_lib.recovery.none import METHOD as NONE
from ctp_lib.recovery.soft_prompt import METHOD as PROMPT
from ctp_lib.settings.levels import Level

MATCHES = 0.95
"""A level *matches* while it has this share of the uncompressed model's right answers (LLM-KICK, section 3)."""
BEYOND = 0.84
"""Standard errors to add to the half-width of an interval for a power of 80 %."""
FOURS = 5
"""The fewest groups of four facts that can choose a relation."""
NONE_KNOWN = "no relation votes: from memory, the uncompressed model answers none better than a guesser"
NONE_READ = "no relation votes: from a misleading passage, the uncompressed model answers none better than a guesser"
SURE = 0.05
"""How likely a guesser may be as good as a relation that votes, over all relations."""
FIXED_POINTS = np.array([9, 8, 6, 0, 1]) / 24
"""The share of the orders of four things that leave 0, 1, 2, 3, 4 of them in their places."""
NOTEBOOK = "09b_knowledge"
Table = pd.DataFrame


def table(rows: Rows) -> Table:
    """One row per (relation, form, level, method), in shares of the items: as estimates ``accuracy``; ``chosen``, the accuracy on every other
    four facts, by which relations and levels are chosen that vote, and ``guessed``, how likely the first run of a guesser has as many of them
    right; ``judged``, the accuracy on the others, by which claims are judged, since what is chosen and judged by the same answers looks
    better than it is. ``exact``: greedy writing gives the scored text; ``remembered``: a misleading passage did not mislead.
    """
    found = {}
    for (relation, form, level, method), runs in grouped(rows, "relation", "form", "level", "method").items():
        seeds = _seeds(runs)
        units = [run["units"] for run in runs]
        remembered = [run["remembered"] for run in runs if run["remembered"] is not None]
        found[relation, form, level, method] = {
            "accuracy": of_runs(units, f"facts of {relation}", seeds),
            "chosen": of_runs([own[::2] for own in units], f"facts of {relation} that choose", seeds),
            "guessed": as_good_as(units[0][::2]),
            "judged": of_runs([own[1::2] for own in units], f"facts of {relation} that are judged", seeds),
            "chance": runs[0]["chance"],
            "exact": sum(run["exact"] for run in runs) / len(runs),
            "remembered": sum(remembered) / len(remembered) if remembered else float("nan"),
            "n": runs[0]["n"],
        }
    return _matched(pd.DataFrame.from_dict(found, orient="index").rename_axis(["relation", "form", "level", "method"]))


def _seeds(runs: Sequence[Row]) -> str | None:
    """The source that runs of one method vary with, if anything was trained."""
    return f"seeds of {runs[0]['method']}, {[run['seed'] for run in runs]}" if runs[0]["trainable_parameters"] else None


def _matched(table: Table) -> Table:
    """``matches``: whether a row has 95 % of the right answers that the uncompressed model has alone, by an interval of its own; no question
    where that one is not certainly above chance.
    """
    found = []
    for (relation, form, _, _), row in table.iterrows():
        full = table.accuracy[relation, form, "full", NONE.name]
        low, high = (row.accuracy - MATCHES * full).interval()
        told = "yes" if low > 0 else "no" if high <= 0 else "undecided"
        found.append(told if full.interval()[0] > row.chance else "at chance")
    return table.assign(matches=found)


def changes(table: Table) -> Table:
    """What each level takes from the accuracy of the uncompressed model, and each repair gives back of it, over the relations that vote (else
    over all): one row per (form, level, method), ``change``, and ``detected``, the least change that would have been told from none.
    """
    means, found = over_relations(table, known(table) or list(table.index.unique("relation")), "accuracy"), {}
    for form, level, method in means.index:
        if (level, method) != ("full", NONE.name):
            before = (form, "full", NONE.name) if method == NONE.name else (form, level, NONE.name)
            change = means[form, level, method] - means[before]
            reach = change.interval()[1] - change.mean
            found[form, level, method] = {"change": change, "detected": reach + BEYOND * change.stderr}
    return pd.DataFrame.from_dict(found, orient="index").rename_axis(["form", "level", "method"])


def of_summaries(rows: Rows) -> Table:
    """One row per (level, method): the share of ``right`` summaries (by chance one in four), ``nats`` a token of the right one, and ROUGE."""
    found = {}
    for key, runs in grouped(rows, "level", "method").items():
        found[key] = {
            name: of_runs([run[name] for run in runs], "facts of summary" if name == "right" else "summaries", _seeds(runs))
            for name in ("right", "nats", *ROUGE)
        }
    return pd.DataFrame(found.values(), index=pd.MultiIndex.from_tuples(found, names=["level", "method"]))


def beside_smaller(table: Table, smaller: Rows) -> dict[str, Estimate]:
    """By level: the share of facts that the model knows, less that of the uncompressed ``smaller`` one, over relations that vote."""
    rows, relations = list(smaller), known(table)
    if not rows or not relations:
        return {}
    asked = [row for row in rows if row["form"] == "closed_book" and row["relation"] in relations]
    small = mean([of_runs([row["units"][1::2]], f"facts of {row['relation']} that are judged", None) for row in asked])
    own = over_relations(table, relations).xs(("closed_book", NONE.name), level=("form", "method"))
    return {level: accuracy - small for level, accuracy in own.items()}


def known(table: Table, form: str = "closed_book") -> list[str]:
    """The relations of which the uncompressed model remembers more than chance, with certainty; for ``counterfactual``, those that it reads from
    a passage against its memory. The others do not vote.
    """
    full = table.xs((form, "full", NONE.name), level=("form", "level", "method"))
    enough = {relation: row.guessed for relation, row in full.iterrows() if row.chosen.number("units") >= FOURS}
    return [relation for relation, probability in enough.items() if probability <= SURE / len(full)]


def over_relations(table: Table, relations: Sequence[str], column: str = "judged") -> pd.Series:
    """The mean of ``column`` over ``relations``: one estimate per (form, level, method)."""
    rows = table[table.index.get_level_values("relation").isin(relations)]
    return rows.groupby(level=["form", "level", "method"], sort=False)[column].agg(lambda found: mean(list(found)))


def gains(prompted: Rows, none: Rows, broad: str) -> dict[str, Estimate]:
    """What the best size of a prompt gains in NLL over the level alone, in nats per token, by compressed level; rows as in notebook 11."""
    alone = {row["level"]: row for row in none if row["evaluated_on"] == broad}
    found: dict[str, list[Row]] = {}
    for row in prompted:
        if row["evaluated_on"] == broad and row["level"] != "full":
            found.setdefault(row["level"], []).append(row)
    best = {level: comparison.best_size(rows) for level, rows in found.items()}
    return {level: gain([row for row in rows if row["point"] == best[level]], [alone[level]]) for level, rows in found.items()}


def verdicts(
    table: Table,
    gains: Mapping[str, Estimate],
    margin: float,
    nats: float,
    stored: Mapping[str, int] | None = None,
    beside: Mapping[str, Estimate] | None = None,
) -> list[Verdict]:
    """What LLM-KICK says, and whether a prompt restores knowledge. ``gains`` are those of a prompt in NLL, by level; ``stored``: bytes by level;
    ``beside``: how much more is known than by a smaller model, at the levels of :func:`no_larger`.
    """
    chance = float(table.chance.iloc[0])
    memory, reading = known(table), known(table, "counterfactual")
    knows = over_relations(table, memory) if memory else None
    reads = over_relations(table, reading) if reading else None
    both = [relation for relation in memory if relation in reading]
    lost, lost_of_both = (_lost(table, relations) for relations in (memory, both))
    return [
        _falls_first(over_relations(table, both) if both else None, chance, lost_of_both, margin),
        _costs_more(knows, stored or {}, lost, margin),
        _patterns_fail(knows),
        _reading_survives(reads),
        _restores(knows, gains, lost, margin, nats),
        _beats_smaller(beside or {}, margin),
    ]


def _kept(means: pd.Series, form: str, level: str, chance: float) -> Estimate:
    """The share of the uncompressed model's accuracy above chance that a level keeps."""
    guessed = Estimate(chance, {})
    return ratio(means[form, level, NONE.name] - guessed, means[form, "full", NONE.name] - guessed)


def _matches(means: pd.Series, form: str, level: str) -> Estimate:
    return means[form, level, NONE.name] - MATCHES * means[form, "full", NONE.name]


def _levels(means: pd.Series | None, asked: Callable[[Level], bool] = lambda level: level.family != "full") -> list[str]:
    if means is None:
        return []
    alone = means.xs(NONE.name, level="method").index.get_level_values("level")
    return [level for level in dict.fromkeys(alone) if asked(Level.parse(level))]


def _lost(table: Table, relations: Sequence[str]) -> dict[str, Estimate]:
    """By level, what compression takes from memory, on the facts that choose: where it is little, there is nothing to compare or bring back."""
    if not relations:
        return {}
    alone = over_relations(table, relations, "chosen").xs(("closed_book", NONE.name), level=("form", "method"))
    return {level: alone["full"] - accuracy for level, accuracy in alone.items()}


def _told(claim: str, says: str, part: Part, yes: str, no: str, why: str = "") -> Verdict:
    """``why``: the reason for which no cell votes, if there is one for all."""
    figures = "; ".join(filter(None, ["after LLM-KICK (Jaiswal et al. 2023)", why]))
    return Verdict(claim, says, part.told(yes, no), (part,), figures, NOTEBOOK)


def _falls_first(means: pd.Series | None, chance: float, lost: Mapping[str, Estimate], margin: float) -> Verdict:
    """Reading is what a passage says against memory: with a true passage, what is remembered would count as read."""
    levels = _levels(means)
    effects = {
        level: _kept(means, "counterfactual", level, chance) - _kept(means, "closed_book", level, chance) for level in levels
    }
    silent = without_cost({level: lost[level] for level in levels}, margin)
    part = judge("a level keeps more of reading than of memory", effects, margin, "of the accuracy above chance", silent=silent)
    says = "compression destroys knowledge before reading"
    return _told("K1", says, part, "Knowledge falls first", "does not fall first", NONE_READ if means is None else "")


def _costs_more(means: pd.Series | None, stored: Mapping[str, int], lost: Mapping[str, Estimate], margin: float) -> Verdict:
    """Each pruned level beside the quantised one that takes the most bytes, but no more than it."""
    quantised, pruned = (_levels(means, lambda level, family=family: level.family == family) for family in ("quantised", "pruned"))
    effects, costs = {}, {}
    for level in pruned:
        smaller = [other for other in quantised if stored.get(other, math.inf) <= stored.get(level, 0)]
        if means is not None and smaller:
            other = max(smaller, key=stored.__getitem__)
            effects[f"{level} beside {other}"] = means["closed_book", other, NONE.name] - means["closed_book", level, NONE.name]
            costs[f"{level} beside {other}"] = lost[level]
    silent = without_cost(costs, margin)
    part = judge("a quantised level that is no larger knows more", effects, margin, "of the items", silent=silent)
    says = "pruning costs more knowledge than quantising"
    return _told("K2", says, part, "Costs more", "does not cost more", NONE_KNOWN if means is None else "")


def _patterns_fail(means: pd.Series | None) -> Verdict:
    levels = _levels(means, lambda level: level.pattern is not None)
    effects = {level: -1.0 * _matches(means, "closed_book", level) for level in levels}
    part = judge("less than 95 % of the uncompressed accuracy", effects, 0.0, "of the items")
    says = "N:M pruning always loses more than 5 % of the knowledge"
    return _told("K3", says, part, "Loses more", "does not lose more", NONE_KNOWN if means is None else "")


def _reading_survives(means: pd.Series | None) -> Verdict:
    effects = {level: _matches(means, "counterfactual", level) for level in _levels(means)}
    part = judge("at least 95 % of the uncompressed accuracy, on misleading passages", effects, 0.0, "of the items")
    says = "reading from a given passage survives compression"
    return _told("K4", says, part, "Survives", "does not survive", NONE_READ if means is None else "")


def _restores(
    means: pd.Series | None, gains: Mapping[str, Estimate], lost: Mapping[str, Estimate], margin: float, nats: float
) -> Verdict:
    found = {} if means is None else means.xs("closed_book", level="form").to_dict()
    prompted = [level for level in gains if (level, PROMPT.name) in found]
    change = {level: found[level, PROMPT.name] - found[level, NONE.name] for level in prompted}
    silent = without_cost({level: lost[level] for level in prompted}, margin)
    lower = {level: gains[level] for level in prompted}
    back = {level: -1.0 * value for level, value in change.items()}
    parts = (
        judge("a prompt lowers NLL", lower, nats, silent=silent),
        judge("it brings no knowledge back", back, -margin, "of the items", silent=silent),
    )
    says = "(ours) a prompt restores fluency but not knowledge"
    shown = "; ".join(f"{level} {100 * value.mean:+.1f} points" for level, value in change.items())
    headline = f"{parts[0].told('Restores fluency', 'does not restore fluency')}; no knowledge back: {parts[1].outcome}"
    return Verdict("K5", says, headline, parts, f"change in closed-book accuracy: {shown or 'not measured'}", NOTEBOOK)


def _beats_smaller(beside: Mapping[str, Estimate], margin: float) -> Verdict:
    part = judge("the pruned model knows more", beside, margin, "of the items")
    says = "a large pruned model knows more than a small dense one"
    return _told("K6", says, part, "Knows more", "does not know more")


def no_larger(stored: Mapping[str, int], bytes_of_smaller: int) -> list[str]:
    """Of each compression method, the mildest pruned level that takes no more bytes than the smaller model; ``stored`` are bytes by level."""
    found: dict[str, str] = {}
    for name, size in stored.items():
        level = Level.parse(name)
        if level.family == "pruned" and size <= bytes_of_smaller and size > stored.get(found.get(level.method, ""), 0):
            found[level.method] = name
    return list(found.values())


def as_good_as(units: Sequence[float]) -> float:
    """The probability that a guesser has as many of the facts in ``units`` right, or more. A unit is the share of four facts whose answers are
    the same four, each right once. A guesser's answers do not depend on the facts. How many are right varies most where it gives each
    answer once: then it is the number of fixed points of a random order of four, which 9, 8, 6, 0 and 1 of 24 orders have 0 to 4 of.
    """
    spread = np.ones(1)
    for _ in units:
        spread = np.convolve(spread, FIXED_POINTS)
    return float(spread[round(sum(units) * CHOICES) :].sum())
