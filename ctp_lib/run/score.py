"""``python -m ctp_lib.run.score MODEL LEVEL METHOD``: score what a method learned on a model at a level, as one cell of the graph."""

from __future__ import annotations

import argparse
import sys

from ctp_lib.settings import names, study
from ctp_lib.settings.levels import Level
from ctp_lib.settings.spec import ParameterError


def main() -> None:
    """The command line; one sentence on stderr when it cannot be done."""
    parser = argparse.ArgumentParser(prog="python -m ctp_lib.run.score", description="Score one method on one model at one level.")
    for what in ("model", "level", "method"):
        parser.add_argument(what)
    asked = parser.parse_args()
    try:
        settings = study.load()
        model, level = names.model(settings, asked.model), Level.parse(names.level(settings, asked.level))
        from ctp_lib.recovery import scores  # imports torch, after what can be wrong with the names

        for row in scores.obtain(settings, model, level, asked.method)["perplexity"]:
            print(f"{row['evaluated_on']:20} seed {row['seed']}: perplexity {row['ppl']:.3f}, {row['windows']} windows")
    except ParameterError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
