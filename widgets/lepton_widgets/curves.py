"""The curves of a run's story as a page takes them: the points that it lacks, in one binary block."""

from __future__ import annotations

import json
import struct
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from lepton_lab.metrics import MINIMISED, Known, judges, known, main, summarised
from lepton_lab.store.figures import VALUE
from lepton_lab.store.story import Story
from lepton_lab.store.tracks import Track
from lepton_lab.watched import EMA

SPLITS = ("val", "test", f"val{EMA}", f"test{EMA}")
ALL = -1
"""The rank of a series that stands for all ranks together."""

OWN = "own/"
"""Before the name of a number that a user's code logs."""

Key = tuple[str, str, int]
"""Metric (its name, or a logged one's after OWN), split ("train", or one of SPLITS) and rank of a series."""


class Mark(NamedTuple):
    """What of a series a view has been given."""

    version: int
    """Of its track, see there."""
    steps: int
    """Steps of its track that were looked at."""
    points: int
    """Points of those steps: steps at which the value is a number."""


def series(story: Story) -> Iterator[tuple[Key, Track]]:
    """What a view draws of a run: the series, and the track that holds each."""
    tracks = [("train", ALL, story.training)]
    ranks = {number: rank.track for number, rank in sorted(story.ranks.items()) if rank.track}
    if len(ranks) > 1:
        tracks += [("train", number, track) for number, track in ranks.items()]
    tracks += [(split, ALL, story.evaluations[split]) for split in SPLITS if split in story.evaluations]
    for split, rank, track in tracks:
        for metric in story.drawn(track):
            yield (metric, split, rank), track
    for (name, split), track in story.logged.items():
        yield (f"{OWN}{name}", split, ALL), track


def described(of: Known | None = None, shown: Sequence[str] = ()) -> dict[str, Any]:
    """What a page must know of the metrics: those it draws, and the figures that it lists, with names and formats.

    ``shown`` are those of which it draws a chart before someone chooses.
    """
    of = known() if of is None else of
    drawn = [
        {"name": name, "title": metric.title, "fraction": bool(metric.unit()), "higher": metric.higher}
        | {"highest": metric.highest, "first": name == MINIMISED}
        for name, metric in of.items()
    ]
    listed = [
        {"key": key, "label": figure.label, "split": figure.split, "metric": figure.name}
        for key, figure in summarised(of).items()
    ]
    return {"drawn": drawn, "listed": listed, "judges": judges(of), "main": main(of), "shown": [*shown]}


def steps(story: Story) -> float:
    """Curves over optimizer steps: what a step counts on the x axis."""
    return 1.0


def passes(story: Story) -> float:
    """Curves over passes through the training data, so that batches of all sizes end at the same place."""
    return story.epochs / story.steps if story.steps else 1.0


def pack(
    stories: Iterable[Story], marks: list[dict[Key, Mark]] | None = None, unit: Callable[[Story], float] = steps
) -> bytes:
    """Points that a view does not have yet, as one binary block.

    Parameters
    ----------
    stories : iterable of Story
    marks : list of dict, optional
        For each run what the view has; brought up to date. Without it all points are packed.
    unit : callable, optional
        What a step counts on the x axis: ``steps`` or ``passes``.

    Returns
    -------
    bytes
        Length of the head (uint32, little endian), the head (JSON, padded to 8 bytes): a list of
        ``[run, metric, split, rank, version, start, count]``, then for each entry ``count`` steps
        and ``count`` values as float64. Empty when there is nothing new.
    """
    head, body = [], []
    for index, story in enumerate(stories):
        sent, scale = marks[index] if marks is not None else {}, unit(story)
        for key, track in series(story):
            mark = sent.get(key)
            if mark is None or mark.version != track.version:
                mark = Mark(track.version, 0, 0)
            x, y = track.points(VALUE if key[0].startswith(OWN) else key[0], mark.steps)
            if len(x) or sent.get(key, mark) != mark:
                head.append([index, *key, track.version, mark.points, len(x)])
                body += [(x if scale == 1 else array("d", (step * scale for step in x))).tobytes(), y.tobytes()]
            sent[key] = Mark(track.version, len(track), mark.points + len(x))
    if not head:
        return b""
    text = json.dumps(head, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 4) % 8)
    return b"".join([struct.pack("<I", len(text)), text, *body])
