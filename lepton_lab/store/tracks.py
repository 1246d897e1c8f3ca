"""Columns of numbers by optimizer step: how a reader keeps the rows of a long run."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Mapping
from itertools import compress
from typing import Any, NamedTuple

AROUND = ("t", "epoch", "lr", "samples")  # what a row of a training step holds beside its metrics


class Curve(NamedTuple):
    """Optimizer steps, ascending, and a value at each."""

    x: list[float]
    y: list[float]


class Track:
    """
    Values by step, which grow at the end and are cut there by a rewind.

    Attributes
    ----------
    x
        Steps, ascending.
    columns
        By name a value for each step; NaN where there is none.
    version
        Counts the cuts, so that a view can tell old points from new ones.
    """

    __slots__ = ("columns", "version", "x")

    def __init__(self, version: int = 0) -> None:
        self.x = array("d")
        self.columns: dict[str, array[float]] = {}
        self.version = version

    def __len__(self) -> int:
        return len(self.x)

    @property
    def last(self) -> float:
        """The last step; 0 before the first."""
        return self.x[-1] if self.x else 0.0

    def append(self, step: float, values: Mapping[str, Any], omitted: Collection[str] = ()) -> None:
        """Add a step's numbers, without those `omitted`; they replace what stands from this step on."""
        if self.x and step <= self.x[-1]:
            self.cut(step)
        count, filled = len(self.x), 0
        self.x.append(step)
        for name, value in values.items():
            if name in omitted:
                continue
            if (column := self.columns.get(name)) is None:
                if not isinstance(value, (int, float)):
                    continue
                column = self.columns[name] = array("d", [math.nan]) * count
            column.append(math.nan if value is None else value)
            filled += 1
        if filled < len(self.columns):
            for column in self.columns.values():
                if len(column) == count:
                    column.append(math.nan)

    def part(self, begin: int, end: int) -> Track:
        """A copy of the steps from one place to before another."""
        track = Track()
        track.x = self.x[begin:end]
        track.columns = {name: column[begin:end] for name, column in self.columns.items()}
        return track

    def extend(self, later: Track) -> None:
        """Add steps that come after the last."""
        count = len(self)
        self.x.extend(later.x)
        for name in self.columns.keys() | later.columns.keys():
            column = self.columns.setdefault(name, array("d", [math.nan]) * count)
            column.extend(later.columns.get(name) or array("d", [math.nan]) * len(later))

    def cut(self, step: float) -> None:
        """Drop what stands from a step on."""
        count = bisect_left(self.x, step)
        if count < len(self.x):
            for column in (self.x, *self.columns.values()):
                del column[count:]
            self.version += 1

    def points(self, name: str, start: int = 0) -> tuple[array[float], array[float]]:
        """Steps from place `start` on that have a value of this name, and the values."""
        y = self.columns.get(name, array("d"))[start:]
        numbers = [value == value for value in y]  # NaN is not
        return array("d", compress(self.x[start:], numbers)), array("d", compress(y, numbers))

    def curve(self, name: str) -> Curve:
        """The points of a name."""
        x, y = self.points(name)
        return Curve(x.tolist(), y.tolist())

    def latest(self, name: str) -> float | None:
        """The last value of a name, or None."""
        return next((value for value in reversed(self.columns.get(name, ())) if not math.isnan(value)), None)


class Rank:
    """What one rank has told."""

    def __init__(self) -> None:
        self.track = Track()  # its training steps
        self.step = 0  # optimizer steps done, whether it told of each or not
        self.lr: float | None = None  # learning rate of its last step
        self.facts: dict[str, Any] = {}  # the latest of STANDING, and under `waits` what it waits in
        self.peaks: dict[str, float] = {}  # the most of memory and gpu_memory so far, in bytes
        self.gone = False  # whether the run goes on without it
        self.floor = -1.0  # nothing more can come of it up to this step; -1 before its first rewind
        self.merged = 0  # how many steps of its track are merged with those of the other ranks

    def unmerged(self, step: float) -> Track:
        """Its training steps up to one that were not asked for yet."""
        begin, self.merged = self.merged, bisect_right(self.track.x, step)
        return self.track.part(begin, self.merged)

    @property
    def reach(self) -> float:
        """The step up to which all of it is known."""
        return math.inf if self.gone else max(self.track.last, self.floor)


def together(tracks: list[Track]) -> Track:
    """The steps of several ranks as one track; see `Story` for how they are merged."""
    import numpy as np

    def joined(name: str) -> Any:
        return np.concatenate([track.columns.get(name) or [math.nan] * len(track) for track in tracks])

    steps, place = np.unique(np.concatenate([track.x for track in tracks]), return_inverse=True)
    samples, names = joined("samples"), {name for track in tracks for name in track.columns}
    total, merged = np.bincount(place, samples), Track()
    columns: dict[str, Any] = {"samples": total, "ranks": np.bincount(place)} if "t" in names else {}
    for name in names - {"samples"}:
        values = joined(name)
        if name in AROUND:
            columns[name] = np.full(len(steps), -math.inf)
            np.maximum.at(columns[name], place, values)
        else:
            with np.errstate(invalid="ignore"):  # of a step without samples
                columns[name] = np.bincount(place, np.where(samples > 0, values * samples, 0.0)) / total
    merged.x.extend(steps.tolist())
    merged.columns = {name: array("d", column.tolist()) for name, column in columns.items()}
    return merged
