"""Rows of events become the series that a chart draws: pure, without a widget or a thread."""

from __future__ import annotations

import json
import struct
from array import array
from collections.abc import Iterable, Mapping
from typing import Any

METRICS = ("loss", "accuracy")
SPLITS = ("val", "test")
ALL = -1
"""The rank of a series that stands for all ranks together."""

Row = Mapping[str, Any]
Key = tuple[str, str, int]
"""Metric ("loss", "accuracy"), split ("train", "val", "test") and rank of a series."""


class Series:
    """Steps and values of one curve; it grows at the end and a rewind cuts it.

    Attributes
    ----------
    x, y : array of float64
        Steps (ascending) and values; a value that is missing is NaN.
    version : int
        Counts the cuts, so that a view can tell old points from new ones.
    """

    __slots__ = ("version", "x", "y")

    def __init__(self) -> None:
        self.x = array("d")
        self.y = array("d")
        self.version = 0

    def __len__(self) -> int:
        return len(self.x)

    def cut(self, step: int) -> None:
        """Drop the points after ``step``."""
        kept = len(self.x)
        while kept and self.x[kept - 1] > step:
            kept -= 1
        if kept < len(self.x):
            del self.x[kept:], self.y[kept:]
            self.version += 1


class Curves:
    """The series of one run, fed with rows as they come.

    A training step is reported once by each rank. Its merged value is the mean over the ranks,
    weighted with their samples; it appears when all ranks have reported the step.

    Parameters
    ----------
    world : int
        Number of ranks.
    """

    def __init__(self, world: int = 1) -> None:
        self.world = world
        self.series: dict[Key, Series] = {}
        self._waiting: dict[int, dict[int, Row]] = {}  # step -> rank -> row, until all ranks have reported it

    def add(self, rows: Iterable[Row]) -> None:
        """Take over the rows of kind ``train`` and ``eval``, and the notes that rewind."""
        for row in rows:
            kind = row["kind"]
            if kind == "train":
                self._train(row)
            elif kind == "eval" and row["split"] in SPLITS:
                self._append(row["split"], ALL, row["step"], [row.get(metric) for metric in METRICS])
            elif kind == "note" and "rewind" in row:
                self._rewind(row["rank"], row["rewind"])

    def _rewind(self, rank: int, step: int) -> None:
        """Forget what a rank wrote after ``step``: it goes on from a checkpoint made there."""
        for (_, split, owner), series in self.series.items():
            if owner == rank or (owner == ALL and (split == "train" or rank == 0)):
                series.cut(step)
        for later in [s for s in self._waiting if s > step]:
            self._waiting[later].pop(rank, None)

    def _train(self, row: Row) -> None:
        step, values = row["step"], [row.get(metric) for metric in METRICS]
        if self.world == 1:
            self._append("train", ALL, step, values)
            return
        self._append("train", row["rank"], step, values)
        ranks = self._waiting.setdefault(step, {})
        ranks[row["rank"]] = row
        if len(ranks) == self.world:
            del self._waiting[step]
            self._append("train", ALL, step, [_mean(ranks.values(), metric) for metric in METRICS])

    def _append(self, split: str, rank: int, step: int, values: list[float | None]) -> None:
        for metric, value in zip(METRICS, values, strict=True):
            if value is None:
                continue
            series = self.series.get((metric, split, rank))
            if series is None:
                series = self.series[metric, split, rank] = Series()
            series.x.append(step)
            series.y.append(value)


def _mean(rows: Iterable[Row], metric: str) -> float | None:
    """Mean over ranks weighted with their samples; None if a rank has no value."""
    weighted, samples = 0.0, 0
    for row in rows:
        value = row.get(metric)
        if value is None:
            return None
        weighted += value * row["samples"]
        samples += row["samples"]
    return weighted / samples if samples else None


Mark = tuple[int, int]
"""Version and length of a series at one moment: what a view has been given."""


def pack(runs: Iterable[Curves], given: list[dict[Key, Mark]] | None = None) -> bytes:
    """Points that a view does not have yet, as one binary block.

    Parameters
    ----------
    runs : iterable of Curves
    given : list of dict, optional
        For each run what the view has; brought up to date. Without it all points are packed.

    Returns
    -------
    bytes
        Length of the head (uint32, little endian), the head (JSON, padded to 8 bytes): a list of
        ``[run, metric, split, rank, version, start, count]``, then for each entry ``count`` steps
        and ``count`` values as float64. Empty when there is nothing new.
    """
    head, body = [], []
    for index, curves in enumerate(runs):
        marks = given[index] if given is not None else {}
        for key, series in list(curves.series.items()):
            version, start = marks.get(key, (series.version, 0))
            if version != series.version:
                start = 0
            marks[key] = (series.version, len(series))
            if start < len(series) or version != series.version:
                head.append([index, *key, series.version, start, len(series) - start])
                body += [series.x[start:].tobytes(), series.y[start:].tobytes()]
    if not head:
        return b""
    text = json.dumps(head, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 4) % 8)
    return b"".join([struct.pack("<I", len(text)), text, *body])
