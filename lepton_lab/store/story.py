"""What the events of a run mean: how fast it is and how far; every view takes these figures from here."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

WINDOW = 10.0
"""Seconds of training over which a speed is measured."""
RESTING = frozenset({"queued", "starting", "paused", "stopping"})
"""States in which no step is made: a speed measured before them says nothing of now."""


class Pace:
    """The speed of one rank over its last seconds of training; evaluations, checkpoints and pauses are taken off."""

    def __init__(self) -> None:
        self._stretches: deque[list[float]] = deque([[0.0, 0, 0]])  # seconds, steps, samples; a hundred at most
        self._before: float | None = None
        self._rested = 0.0

    def step(self, t: float, samples: int) -> None:
        """Note that a step of so many samples was done at `t` (seconds)."""
        if self._before is not None and (seconds := t - self._before - self._rested) > 0:
            if self._stretches[-1][0] > WINDOW / 100:
                self._stretches.append([0.0, 0, 0])
                while sum(seconds for seconds, *_ in self._stretches) - self._stretches[0][0] > WINDOW:
                    self._stretches.popleft()
            last = self._stretches[-1]
            last[:] = last[0] + seconds, last[1] + 1, last[2] + samples
        self._before, self._rested = t, 0.0

    def rest(self, seconds: float) -> None:
        """Take off seconds in which something else was done since the last step."""
        self._rested += seconds

    def begin(self) -> None:
        """Count from the next step on: what was before it is no training."""
        self._before = None

    @property
    def rates(self) -> dict[str, float]:
        """`samples_per_s` and `steps_per_s` of the rank; empty before its second step."""
        seconds, steps, samples = map(sum, zip(*self._stretches, strict=True))
        return {"samples_per_s": samples / seconds, "steps_per_s": steps / seconds} if seconds else {}


def speed(rates: Iterable[float | None], parts: int) -> float | None:
    """
    Samples a second of a run over all ranks, or None if it is not known yet.

    Parameters
    ----------
    rates
        Samples a second of its ranks, as far as they are known.
    parts
        Parts that a batch is cut into; ranks that compute the same samples, as `tensor`'s do, count once.
    """
    known = [rate for rate in rates if rate is not None]
    return parts * sum(known) / len(known) if known else None


def epoch(step: int, steps: int | None, epochs: int) -> int:
    """The epoch at hand, from 1, after `step` of `steps` optimizer steps; 0 before the first step."""
    return -(-step * epochs // steps) if steps else 0


def seconds_left(step: int, steps: int | None, steps_per_s: float | None) -> float | None:
    """Seconds until the last step at this speed, or None if that is not known."""
    return (steps - step) / steps_per_s if steps and steps_per_s else None
