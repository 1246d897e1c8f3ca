"""The answers of the lessons' exercises, kept apart from the cells in which they are asked for."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple


class Exercise(NamedTuple):
    """
    What an exercise wants to hear.

    Attributes
    ----------
    truth : callable
        What is right, from what its cell knows.
    hint : str
        Helps on after a wrong answer.
    within : float
        How far off an answer may be, as a fraction of what is right; 0 takes the number alone.
    """

    truth: Callable[..., float]
    hint: str
    within: float = 0.0


EXERCISES = {
    "01.1": Exercise(lambda samples: -(-samples // 32), "divide, and round up: what is left over makes a step too."),
    "01.2": Exercise(
        lambda output, target, hidden: 2 * (output - target) * hidden,
        "2 (output - target), times what the weight is multiplied by: h[1].",
        within=0.01,
    ),
    "01.3": Exercise(lambda: 0.01, "after correction m is g and v is g², so that m / √v is 1, or -1.", within=0.01),
    "01.4": Exercise(
        lambda curvatures: 2 / max(curvatures),
        "the steepest direction decides: 2 / the larger of the two.",
        within=0.01,
    ),
    "01.5": Exercise(
        lambda: math.sqrt(2 / 512), "the variance is 2 / inputs, and the standard deviation its root.", within=0.01
    ),
    "01.6": Exercise(lambda: 7, "512 / 80, rounded up: each portion must fit."),
    "02.1": Exercise(
        lambda numbers, ranks: 4 * numbers * 2 * (ranks - 1) / ranks,
        "four bytes, times the parameters, times 2 (n - 1) / n.",
    ),
    "02.2": Exercise(lambda: 27, "n = 4: 3 / (m + 3) = 0.1, so m + 3 = ..."),
    "02.3": Exercise(
        lambda: 2 * math.sin(math.pi / 10),
        "2 sin(pi / (2 (2 d + 1))) for a delay of d steps; for d = 0 it is the well-known 2.",
        within=0.03,  # found by trying
    ),
    "03.1": Exercise(lambda: 4, "inputs x outputs x kernel, for each pixel: both inputs and outputs are halved."),
    "03.2": Exercise(
        lambda m, n: m * n // (m + n) + 1, "solve r (m + n) = m n for r; the first whole rank above that holds more."
    ),
    "04.1": Exercise(
        lambda: 24 / 44, "the batch has 4 rows as long as the longest; count what is not a word.", within=0.01
    ),
    "04.2": Exercise(lambda: 1.625, "a piece's sum is its words times its mean; add sums, add words, and divide once."),
    "04.3": Exercise(
        lambda: 0.85**10, "to stay out of one epoch has a chance of 0.85; of ten in a row ...", within=0.02
    ),
    "04.4": Exercise(
        lambda: 2 * math.log(2), "minus the logarithm of one half, for real points and for made ones.", within=0.01
    ),
    "05.1": Exercise(lambda: 0.2 + 0.8 * 0.9, "all of one fifth, and nine tenths of four fifths."),
    "05.2": Exercise(
        lambda: 200 / (200 + 0.05 * 9800),
        "5 % of 9,800 right labels are suspected too: wrong ones / all that are suspected.",
        within=0.01,
    ),
    "05.3": Exercise(lambda: 81, "from -4 to 4 there are nine places across, and as many down."),
}
"""Lesson and number -> exercise."""
