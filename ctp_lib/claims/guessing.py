"""How good a guesser is at facts that are asked in fours."""

from collections.abc import Sequence

import numpy as np

from ctp_lib.evaluation.facts_items import CHOICES

FIXED_POINTS = np.array([9, 8, 6, 0, 1]) / 24
"""The share of the orders of four things that leave 0, 1, 2, 3, 4 of them in their places."""


def as_good_as(units: Sequence[float]) -> float:
    """The probability that a guesser has as many of the facts in ``units`` right, or more. A unit is the share of four facts whose answers are
    the same four, each right once. A guesser's answers do not depend on the facts. How many are right varies most where it gives each
    answer once: then it is the number of fixed points of a random order of four, which 9, 8, 6, 0 and 1 of 24 orders have 0 to 4 of.
    """
    spread = np.ones(1)
    for _ in units:
        spread = np.convolve(spread, FIXED_POINTS)
    return float(spread[round(sum(units) * CHOICES) :].sum())
