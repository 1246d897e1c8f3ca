"""How fast a run is: speeds, and the time that steps took."""

from __future__ import annotations

from bisect import bisect
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, pairwise
from statistics import median
from typing import NamedTuple

from .tracks import Curve, Track

WINDOW = 10.0  # seconds of training over which a speed is measured
STRETCHES = 40  # at most, of a throughput curve
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

    def rest(self, seconds: float | None) -> None:
        """Take off seconds in which something else was done since the last step; None: count from the next step on."""
        if seconds is None:
            self._before = None
        else:
            self._rested += seconds

    @property
    def rates(self) -> dict[str, float]:
        """`samples_per_s` and `steps_per_s` of the rank; empty before its second step."""
        seconds, steps, samples = map(sum, zip(*self._stretches, strict=True))
        return {"samples_per_s": samples / seconds, "steps_per_s": steps / seconds} if seconds else {}


class Interval(NamedTuple):
    """What a training step took."""

    step: int
    samples: int
    """Over all ranks."""
    seconds: float
    """Since the step before."""


def intervals(
    track: Track, samples: Sequence[int], breaks: Iterable[float], evaluating: Mapping[float, float]
) -> list[Interval]:
    """
    What each training step took that follows another of the same epoch, with nothing between.

    Evaluations, checkpoints, pauses and restarts are left out. Where each epoch is one step, as under `gd`, evaluations
    are taken off, checkpoints are not.

    Parameters
    ----------
    track
        Of all ranks together, with the columns t and epoch.
    samples
        Of each step, over all ranks.
    breaks
        Times (unix seconds) at which something else than training began or ended.
    evaluating
        Step -> seconds of evaluations after it.
    """
    if "t" not in track.columns:
        return []
    breaks = sorted(breaks)
    x, t, epoch = track.x, track.columns["t"], track.columns["epoch"]
    single = len(set(epoch)) == len(x)  # each epoch is one step
    timed = []
    for before, at in pairwise(range(len(x))):
        follows = x[at] == x[before] + 1 and (single or epoch[at] == epoch[before])
        if follows and bisect(breaks, t[at]) == bisect(breaks, t[before]):
            seconds = t[at] - t[before] - evaluating.get(x[before], 0.0)
            if seconds > 0:
                timed.append(Interval(int(x[at]), samples[at], seconds))
    return timed


def clock(track: Track, steps: list[Interval], ready: float | None) -> Curve:
    """
    Seconds of training until each step was done on all ranks, without evaluations, checkpoints and pauses.

    A step that has no time of its own (see `intervals`), such as an epoch's first, counts as the median of the others.

    Parameters
    ----------
    ready
        When the ranks stood ready (unix seconds), from which it counts; None where that is not known.
    """
    if not track:
        return Curve([], [])
    seconds = {interval.step: interval.seconds for interval in steps}
    usual = median(seconds.values()) if seconds else 0.0
    first, t = track.x[0], track.columns["t"][0]
    if first not in seconds and ready is not None and ready < t:
        seconds[int(first)] = t - ready  # with all that a first step sets up
    return Curve(track.x.tolist(), list(accumulate(seconds.get(int(step), usual) for step in track.x)))


def throughput(steps: list[Interval]) -> Curve:
    """Training samples a second over all ranks, in up to 40 stretches of five steps or more (see `intervals`)."""
    count = max(1, min(STRETCHES, len(steps) // 5))
    bounds = [len(steps) * i // count for i in range(count + 1)]
    parts = [steps[start:end] for start, end in pairwise(bounds) if end > start]
    rates = [sum(each.samples for each in part) / sum(each.seconds for each in part) for part in parts]
    return Curve([float(part[-1].step) for part in parts], rates)
