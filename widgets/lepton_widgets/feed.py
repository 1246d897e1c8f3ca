"""From run folders to a view: tails the events of some runs and packs what is new."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from lepton_lab.store.folder import ENDED
from lepton_lab.store.naming import labels
from lepton_lab.store.story import Story
from lepton_lab.store.tracks import Curve

from .curves import Key, Mark, pack, series
from .status import Status


class Feed:
    """Stories and status of some runs, brought up to date by :meth:`poll`.

    Safe to use from several threads: a page that reloads asks for everything while the watching
    thread appends.

    Parameters
    ----------
    runs : sequence of Run
    """

    def __init__(self, runs: Sequence[Any]) -> None:
        self.runs = list(runs)
        self.stories = [Story.of(run.spec, timed=False) for run in self.runs]
        names = labels(self.runs) if len(self.runs) > 1 else [None]
        self.statuses = [Status(*each) for each in zip(self.runs, names, self.stories, strict=True)]
        self._tails = [run.tail() for run in self.runs]
        self._marks: list[dict[Key, Mark]] = [{} for _ in self.runs]
        self._reading = threading.Lock()
        self._lock = threading.Lock()

    def poll(self) -> bool:
        """Read what the runs wrote since the last call; False once all have ended and nothing is left."""
        with self._reading:
            # The state is read first: what a run wrote before it ended is then read below.
            alive = any(run.state not in ENDED for run in self.runs)
            fresh = False
            for tail, story in zip(self._tails, self.stories, strict=True):
                for rows in tail.portions():
                    fresh = True
                    with self._lock:
                        story.add(rows)
            return alive or fresh

    def delta(self) -> bytes:
        """Points that the view lacks (see :func:`lepton_widgets.curves.pack`)."""
        with self._lock:
            return pack(self.stories, self._marks)

    def snapshot(self) -> tuple[bytes, list[dict[Key, Mark]]]:
        """All points, and the mark from which :meth:`go_back` sends again."""
        with self._lock:
            marks: list[dict[Key, Mark]] = [{} for _ in self.runs]
            return pack(self.stories, marks), marks

    def go_back(self, marks: list[dict[Key, Mark]]) -> None:
        """Let the next delta start where the view stood at ``marks``; what it has already, it skips."""
        with self._lock:
            self._marks = [dict(each) for each in marks]

    def heads(self) -> list[dict[str, Any]]:
        """For each run everything but the curves, as JSON."""
        with self._lock:
            return [status.head() for status in self.statuses]

    def lines(self) -> list[str]:
        """For each run a line of text."""
        with self._lock:
            return [str(status) for status in self.statuses]

    def learning(self) -> list[dict[str, Curve]]:
        """For each run its curves by name, as a finished figure takes them."""
        with self._lock:
            return [story.learning for story in self.stories]

    def points(self) -> list[tuple[int, int]]:
        """What changes with the curves: steps and version of each track."""
        with self._lock:
            return [(len(track), track.version) for story in self.stories for _, track in series(story)]
