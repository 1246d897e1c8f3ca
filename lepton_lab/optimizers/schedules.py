"""
Schedules: each gives the factor, from 0 to 1, that multiplies lr at a step. Pure functions of Python floats.

Every schedule takes `step` (optimizer steps done, 0 <= step < total), `total` (steps of the run) and `warmup` (steps).
All begin with the same linear warm-up, (step + 1) / warmup, and run their own course, p from 0 to 1, over the steps
that are left. So the factor rises from 1 / warmup of where the course starts, without a jump, and is never 0 at step 0.
"""

from __future__ import annotations

from collections.abc import Callable
from math import cos, pi
from typing import Annotated

from pydantic import Field

from ..spec import Spec
from ..tables import pick

Fraction = Annotated[float, Field(ge=0, le=1)]
RANGE_TEST = "range_test"
"""The schedule that looks for divergence: a run that finds it is over, and has not failed."""


def constant(step: int, total: int, warmup: int = 0) -> float:
    """
    The same learning rate throughout.

    factor = 1.
    """
    return _ramp(step, warmup)


def warmup(step: int, total: int, warmup: int = 0, *, share: Annotated[float, Field(gt=0, le=1)] = 0.1) -> float:
    """
    Linear warm-up over the first tenth of the run (or over `warmup` steps), then constant.

    factor = min(1, (step + 1) / warmup) (Goyal and others, arXiv:1706.02677).

    Parameters
    ----------
    share
        Fraction of the run that warms up where `warmup` is 0, above 0, at most 1.
    """
    return _ramp(step, warmup or round(share * total))


def step_decay(
    step: int,
    total: int,
    warmup: int = 0,
    *,
    drops: Annotated[int, Field(ge=0)] = 2,
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.1,
) -> float:
    """
    Falls in steps: a tenth after each third of the run.

    factor = gamma ** floor((drops + 1) * p) (as in He and others, arXiv:1512.03385).

    Parameters
    ----------
    drops
        How often the rate falls, 0 or more.
    gamma
        What is left of it each time, above 0, at most 1.
    """
    return _ramp(step, warmup) * gamma ** int((drops + 1) * _course(step, total, warmup))


def cosine(step: int, total: int, warmup: int = 0, *, floor: Fraction = 0.0) -> float:
    """
    Half a cosine from 1 down to 0.

    factor = floor + (1 - floor) * (1 + cos(pi p)) / 2 (Loshchilov and Hutter, arXiv:1608.03983).

    Parameters
    ----------
    floor
        Fraction of the rate that it ends at, from 0 to 1.
    """
    return _ramp(step, warmup) * _between(floor, 1.0, (1 + cos(pi * _course(step, total, warmup))) / 2)


def cyclical(
    step: int, total: int, warmup: int = 0, *, cycles: Annotated[int, Field(ge=1)] = 4, low: Fraction = 0.1
) -> float:
    """
    Triangular waves: up and down between a tenth and 1, four times.

    factor = low + (1 - low) * (1 - |2 (cycles * p mod 1) - 1|) (Smith, arXiv:1506.01186).

    Parameters
    ----------
    cycles
        Waves, at least 1.
    low
        Fraction of the rate at the foot of a wave, from 0 to 1.
    """
    phase = cycles * _course(step, total, warmup) % 1
    return _ramp(step, warmup) * _between(low, 1.0, 1 - abs(2 * phase - 1))


def one_cycle(step: int, total: int, warmup: int = 0, *, rise: Annotated[float, Field(gt=0, lt=1)] = 0.3) -> float:
    """
    One wave: up from 1/25 for three tenths of the run, then down to nearly nothing.

    Two half cosines, from 1/25 to 1 and on to 1/250,000 (Smith and Topin, arXiv:1708.07120, with the ends that
    torch's OneCycleLR has). Momentum is not cycled.

    Parameters
    ----------
    rise
        Fraction of the run in which the rate goes up, above 0, below 1.
    """
    p = _course(step, total, warmup)
    if p < rise:
        wave = _between(1 / 25, 1.0, (1 - cos(pi * p / rise)) / 2)
    else:
        wave = _between(1 / 250_000, 1.0, (1 + cos(pi * (p - rise) / (1 - rise))) / 2)
    return _ramp(step, warmup) * wave


def range_test(
    step: int,
    total: int,
    warmup: int = 0,
    *,
    low: Annotated[float, Field(gt=0, lt=1)] = 1e-7,
    steps: Annotated[int, Field(ge=0)] = 0,
) -> float:
    """
    Rises exponentially from a ten-millionth to 1, to see from which learning rate on the loss diverges.

    factor = low ** (1 - p), with p = 1 at the last step (Smith's range test, arXiv:1506.01186, with the rates spread
    evenly over decades). Where the loss is no number any more the run ends as stopped.

    Parameters
    ----------
    low
        Fraction of the rate that it begins at, above 0, below 1.
    steps
        Steps that it rises over, after which it stays; 0 takes the whole run.
    """
    last = (steps or max(1, total - warmup)) - 1
    return _ramp(step, warmup) * low ** (1 - min(1.0, max(0, step - warmup) / max(1, last)))


SCHEDULES: dict[str, Callable[..., float]] = {
    "constant": constant,
    "warmup": warmup,
    "step": step_decay,
    "cosine": cosine,
    "cyclical": cyclical,
    "one_cycle": one_cycle,
    RANGE_TEST: range_test,
}


def factor(spec: Spec) -> Callable[[int, int], float]:
    """
    What multiplies `spec.lr`, by the spec's schedule, warm-up and options: (step, total) -> from 0 to 1.

    `step` are the optimizer steps done, 0 <= step < total; `total` are those of the run, at least 1.

    Raises
    ------
    SpecError
        If the schedule is unknown.
    """
    schedule = pick(SCHEDULES, spec.schedule, "schedule")
    options = schedule.__kwdefaults__ or ()
    bound = {name: value for name, value in spec.options.items() if name in options}
    return lambda step, total: schedule(step, total, spec.warmup, **bound)


def _ramp(step: int, warmup: int) -> float:
    return min(1.0, (step + 1) / warmup) if warmup else 1.0


def _course(step: int, total: int, warmup: int) -> float:
    """Fraction p of the run after warm-up that is done, from 0 to below 1."""
    return max(0, step - warmup) / max(1, total - warmup)


def _between(low: float, high: float, share: float) -> float:
    return low + (high - low) * share
