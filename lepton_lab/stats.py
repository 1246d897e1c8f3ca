"""What a few repeats tell of a mean, and some answers of a fraction: Student's interval, and Wilson's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist, mean, stdev
from typing import NamedTuple

LEVEL = 0.95
ROUNDING = 1e-12  # of the largest value: values that differ by less are the same


class Interval(NamedTuple):
    """
    A mean over repeats, and where the true one lies.

    Attributes
    ----------
    mean, spread : float
        Of the values; spread is their standard deviation, with n - 1.
    low, high : float
        Ends of the interval.
    n : int
        Values.
    """

    mean: float
    spread: float
    low: float
    high: float
    n: int

    @property
    def decided(self) -> bool:
        """Whether the interval excludes zero; values without any spread decide nothing."""
        return self.spread > 0 and (self.low > 0 or self.high < 0)

    def scaled(self, factor: float) -> Interval:
        """The same in another unit; `factor` is above 0."""
        return Interval(self.mean * factor, self.spread * factor, self.low * factor, self.high * factor, self.n)


def interval(values: Sequence[float], level: float = LEVEL) -> Interval:
    """
    Student's interval of a mean, for values that scatter about it as a normal distribution does.

    Parameters
    ----------
    values
        At least two.
    level
        Fraction of such intervals that hold the true mean, between 0 and 1.
    """
    from scipy.special import stdtrit  # scipy.stats has it too, and takes half a second to import

    n, middle = len(values), mean(values)
    spread = stdev(values)
    if spread <= ROUNDING * max(map(abs, values)):
        spread = 0.0
    half = float(stdtrit(n - 1, (1 + level) / 2)) * spread / math.sqrt(n)
    return Interval(middle, spread, middle - half, middle + half, n)


def proportion(right: int, count: int, level: float = LEVEL) -> Interval:
    """
    Wilson's interval of a fraction, such as of right answers; its spread is that of a single answer.

    Parameters
    ----------
    right, count
        Right answers among how many, at least one.
    level
        As of `interval`.
    """
    part, z = right / count, NormalDist().inv_cdf((1 + level) / 2)
    middle = (part + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(part * (1 - part) / count + z * z / (4 * count * count))
    low, high = max(0.0, middle - half), min(1.0, middle + half)
    # Of none, or all, an end is the fraction itself, but for rounding.
    return Interval(part, math.sqrt(part * (1 - part)), min(low, part), max(high, part), count)
