"""How the study's own methods learned: validation NLL, step by step."""

import itertools
from collections.abc import Iterable
from typing import Any

import pandas as pd

from ctp_lib.results import cells
from ctp_lib.settings import paths
from ctp_lib.settings.levels import Level
from ctp_lib.settings.study import Study


def of_study(settings: Study, model: str, methods: Iterable[str], levels: Iterable[Level]) -> list[dict[str, Any]]:
    """Validation NLL while each of ``methods`` learned the study's own: a row a validation."""
    rows, shared = [], {"model": model, "trained_on": settings.soft_prompt.corpus}
    for method, level, seed in itertools.product(methods, levels, settings.soft_prompt.seeds):
        about = paths.learned(settings, model, level, method, seed) / paths.LEARNED
        if about.exists() and (run := cells.read(about)["run"]):
            rows += [{**shared, "level": str(level), "method": method, "seed": seed, **row} for row in run["curve"]]
    return rows


def still_learning(settings: Study, model: str, method: str, levels: Iterable[str]) -> list[str]:
    """Those of ``levels`` at which ``method`` was still learning at its end: in the second half of the training, validation NLL fell by more
    than the margin, in the mean over seeds.
    """
    curves = pd.DataFrame(of_study(settings, model, [method], map(Level.parse, levels)))
    over_seeds = curves.groupby(["level", "step"], sort=False).validation_nll.mean()
    halves = {level: values.iloc[[len(values) // 2, -1]].tolist() for level, values in over_seeds.groupby(level="level")}
    return [level for level, (before, after) in halves.items() if before - after > settings.margins.nats]
