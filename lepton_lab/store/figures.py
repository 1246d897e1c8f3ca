"""Figures that a user's code logged, as the rows of all ranks tell them: numbers put together by step, and media."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from .tracks import Track

TAKEN = ("kind", "t", "rank", "step", "split", "reduce")
"""Names in a row of numbers that are not a user's."""
FOLDER = "logged"  # of a run's folder: where media lie
VALUE = "value"  # the column of a track of numbers

Row = Mapping[str, Any]
Key = tuple[str, str]
"""Name and split: "train", or what was evaluated when it was logged."""
Reach = Callable[[int, Track | None], float]
"""(rank, its track of a name) -> the step up to which all of it is known."""


class Figures:
    """
    What the code of several ranks logged.

    - *Numbers*: of each step that all ranks have told of, one of those that logged the name, as it is reduced: their
      mean, sum or largest, or rank 0's.
    - *Media*: where several ranks logged one under the same name at the same step, those of the first rank.
    """

    def __init__(self) -> None:
        self.reductions: dict[str, str] = {}
        self._numbers: dict[Key, dict[int, Track]] = {}
        self._merged: dict[Key, Track] = {}
        self._media: list[Row] = []

    def number(self, row: Row) -> None:
        """Take over a row of numbers."""
        self.reductions |= row.get("reduce", {})
        for name, value in row.items():
            if name in TAKEN:
                continue
            key = name, row["split"]
            track = self._numbers.setdefault(key, {}).setdefault(row["rank"], Track())
            track.append(row["step"], {VALUE: math.nan if value is None else value})
            if key in self._merged:  # of a rank that was thought to be gone
                self._merged[key].cut(row["step"])

    def medium(self, row: Row) -> None:
        """Take over a row of a file."""
        self._media.append(row)

    def rewind(self, rank: int, step: float) -> None:
        """Forget what a rank logged after a step."""
        for key, ranks in self._numbers.items():
            if rank in ranks:
                ranks[rank].cut(step + 1)
                if key in self._merged:
                    self._merged[key].cut(step + 1)
        self._media = [row for row in self._media if row["rank"] != rank or row["step"] <= step]

    @property
    def media(self) -> list[Row]:
        """Rows of files in the order of their steps."""
        first: dict[Any, int] = {}
        for row in self._media:
            key = row["step"], row["split"], row["name"]
            first[key] = min(row["rank"], first.get(key, row["rank"]))
        shown = [row for row in self._media if row["rank"] == first[row["step"], row["split"], row["name"]]]
        return sorted(shown, key=lambda row: row["step"])

    def tracks(self, ranks: list[int], reach: Reach) -> Iterator[tuple[Key, Track]]:
        """The numbers by name and split, of the ranks that the run has or had."""
        for key, by_rank in self._numbers.items():
            how = self.reductions.get(key[0], "mean")
            if how == "rank0" or ranks == [0]:
                yield key, by_rank.get(0) or Track()
                continue
            if (merged := self._merged.get(key)) is None:
                # Of a version that no rank's own track had, of which a view may have been given points.
                merged = self._merged[key] = Track(1 + max(track.version for track in by_rank.values()))
            begin, end = merged.last if merged else -1.0, min(reach(rank, by_rank.get(rank)) for rank in ranks)
            pieces = [
                track.part(bisect_right(track.x, begin), bisect_right(track.x, end)) for track in by_rank.values()
            ]
            if any(pieces):
                merged.extend(reduced([piece for piece in pieces if piece], how))
            yield key, merged


def reduced(pieces: list[Track], how: str) -> Track:
    """The same steps of several ranks as one track: the mean, the sum or the max of the ranks that told of a step."""
    import numpy as np

    steps, place = np.unique(np.concatenate([piece.x for piece in pieces]), return_inverse=True)
    values = np.concatenate([piece.columns[VALUE] for piece in pieces])
    if how == "max":
        merged = np.full(len(steps), -math.inf)
        np.maximum.at(merged, place, values)
    else:
        merged = np.bincount(place, values)
        if how == "mean":
            merged = merged / np.bincount(place)
    track = Track()
    track.x, track.columns[VALUE] = array("d", steps.tolist()), array("d", merged.tolist())
    return track
