"""From run folders to a view: tails the events of some runs and packs what is new."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from lepton_lab.store.naming import labels

from .curves import Curves, Key, Mark, pack
from .status import TERMINAL, Status

PORTION = 2**20
"""Bytes of each file read at once: a long run appears bit by bit, and nobody waits for it to be read whole."""


class Feed:
    """Curves and status of some runs, brought up to date by :meth:`poll`.

    Safe to use from several threads: a page that reloads asks for everything while the watching
    thread appends.

    Parameters
    ----------
    runs : sequence of Run
    make : callable, optional
        Makes the curves of a run from its world.
    """

    def __init__(self, runs: Sequence[Any], make: Callable[[int], Curves] = Curves) -> None:
        self.runs = list(runs)
        self.curves = [make(run.spec.world) for run in self.runs]
        names = labels(self.runs) if len(self.runs) > 1 else [None]
        self.statuses = [Status(run, name) for run, name in zip(self.runs, names, strict=True)]
        self._tails = [run.tail() for run in self.runs]
        self._given: list[dict[Key, Mark]] = [{} for _ in self.runs]
        self._reading = threading.Lock()
        self._lock = threading.Lock()

    def poll(self) -> bool:
        """Read what the runs wrote since the last call; False once all have ended and nothing is left."""
        with self._reading:
            # The state is read first: what a run wrote before it ended is then read below.
            alive = any(run.state not in TERMINAL for run in self.runs)
            fresh = False
            for tail, curves, status in zip(self._tails, self.curves, self.statuses, strict=True):
                rows = sorted(tail.read(PORTION), key=lambda row: row["t"])
                fresh = fresh or bool(rows)
                with self._lock:
                    curves.add(rows)
                    status.add(rows)
            return alive or fresh

    def delta(self) -> bytes:
        """Points that the view lacks (see :func:`lepton_widgets.curves.pack`)."""
        with self._lock:
            return pack(self.curves, self._given)

    def snapshot(self) -> tuple[bytes, list[dict[Key, Mark]]]:
        """All points, and the mark from which :meth:`go_back` sends again."""
        with self._lock:
            given: list[dict[Key, Mark]] = [{} for _ in self.runs]
            return pack(self.curves, given), given

    def go_back(self, given: list[dict[Key, Mark]]) -> None:
        """Let the next delta start where the view stood at ``given``; what it has already, it skips."""
        with self._lock:
            self._given = [dict(marks) for marks in given]

    def heads(self) -> list[dict[str, Any]]:
        """For each run everything but the curves, as JSON."""
        with self._lock:
            return [status.head() for status in self.statuses]
