"""What a few repeats tell of a mean: Student's interval, without more than the standard library."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import mean, stdev
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
        """Whether it leaves out zero; values without any spread can't tell."""
        return self.spread > 0 and (self.low > 0 or self.high < 0)

    def scaled(self, factor: float) -> Interval:
        """The same in another unit; `factor` is above 0."""
        return Interval(*(value * factor for value in self[:4]), self.n)


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
    n, middle = len(values), mean(values)
    spread = stdev(values)
    if spread <= ROUNDING * max(map(abs, values)):
        spread = 0.0
    half = quantile((1 + level) / 2, n - 1) * spread / math.sqrt(n)
    return Interval(middle, spread, middle - half, middle + half, n)


def quantile(p: float, freedom: int) -> float:
    """
    The value below which a fraction `p` of Student's t distribution lies.

    By bisection of its distribution function, which is a finite sum for whole degrees of freedom (Abramowitz and
    Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4).

    Parameters
    ----------
    p
        Fraction, between 0 and 1.
    freedom
        Degrees of freedom, at least 1.
    """
    if p < 0.5:
        return -quantile(1 - p, freedom)
    low, high = 0.0, math.pi / 2  # of the angle whose tangent is t / sqrt(freedom)
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if _within(middle, freedom) < 2 * p - 1 else (low, middle)
    return math.tan(low) * math.sqrt(freedom)


def _within(angle: float, freedom: int) -> float:
    """The share of the distribution that lies between -t and t."""
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term, total = (cosine, cosine) if odd else (1.0, 1.0)
    for k in range(2 + odd, freedom, 2):
        term *= cosine * cosine * (k - 1) / k
        total += term
    if odd:
        return 2 / math.pi * (angle + (sine * total if freedom > 1 else 0.0))
    return sine * total
