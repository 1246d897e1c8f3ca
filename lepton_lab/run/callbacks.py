"""Functions that the kernel calls when something happened to a run; they never run while a cell is busy."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from ..errors import LabError, SpecError, nearest
from ..output import kernel
from ..store.folder import ENDED
from ..values import called

if TYPE_CHECKING:
    from .handle import Run

Function: TypeAlias = Callable[[dict[str, Any]], object]
EVENTS: dict[str, Callable[[dict[str, Any]], bool]] = {
    "epoch": lambda row: row["kind"] == "eval" and row["split"] == "train",
    "evaluation": lambda row: row["kind"] == "eval" and row["split"] != "train",
    "state": lambda row: row["kind"] == "state",
    "end": lambda row: row["kind"] == "state" and row["state"] in ENDED,
}
"""What a row of events must be for each."""
EVERY = 0.2  # seconds between looks, while the kernel is idle


class Callback:
    """A function that is called for the events of a run; `off()` ends that."""

    def __init__(self, run: Run, event: str, function: Function) -> None:
        self._run, self._event, self._function = run, event, function
        self.active = True
        """Whether it is still to be called."""

    def __repr__(self) -> str:
        off = "" if self.active else ", off"
        return f"<Callback {called(self._function)} on {self._event!r} of run {self._run.id}{off}>"

    def off(self) -> None:
        """Call the function no more."""
        self.active = False

    def offer(self, row: dict[str, Any]) -> None:
        """Call the function if a row is for it; one that raises is told of and taken off."""
        if self.active and EVENTS[self._event](row):
            try:
                self._function(row)
            except (Exception, SystemExit) as error:  # which would end the kernel
                self.off()
                last = traceback.extract_tb(error.__traceback__)[-1]
                where = f"line {last.lineno} of {Path(last.filename).name}"
                print(
                    f"{called(self._function)}, called on {self._event!r} of run {self._run.id}, raised "
                    f"{type(error).__name__}: {error} ({where}); it is called no more, and the run goes on",
                    file=sys.stderr,
                )


class Callbacks:
    """The callbacks of one run in this process, and what of its events they have been given."""

    def __init__(self, run: Run) -> None:
        self._run, self._callbacks = run, list[Callback]()
        self._late: list[tuple[Callback, dict[str, Any]]] = []  # of a run that had ended before
        self._tail = run.tail()
        self._loop: asyncio.AbstractEventLoop | None = None

    def add(self, event: str, function: Function) -> Callback:
        """Call a function for each event from now on."""
        facts, state = self._run.facts, self._run.state
        if self.idle:
            self._tail = self._run.tail()
            if state not in ("queued", "starting"):
                self._tail.skip()
        callback = Callback(self._run, event, function)
        self._callbacks.append(callback)
        if state in ENDED:
            self._late.append((callback, {"kind": "state", "t": facts["t"], "rank": -1, "state": state}))
        if self._loop is None and kernel():
            try:
                self._loop = asyncio.get_running_loop()
            except RuntimeError:  # in a thread of a user's own
                raise LabError(f"run.on({event!r}, ...) belongs into a cell, not into a thread of your own") from None
            self._loop.call_later(EVERY, self._look)
        return callback

    @property
    def idle(self) -> bool:
        """Whether nothing is to be called."""
        return not any(callback.active for callback in self._callbacks)

    def deliver(self) -> None:
        """Call them for what is new."""
        late, self._late = self._late, []
        for callback, row in late:
            callback.offer(row)
        for row in sorted(self._tail.read(), key=lambda row: row["t"]):
            for callback in tuple(self._callbacks):
                callback.offer(row)
        self._callbacks = [callback for callback in self._callbacks if callback.active]

    def _look(self) -> None:
        """Call them between two cells, and look again, as long as something can come."""
        loop, self._loop = self._loop, None
        ended = self._run.state in ENDED  # before the rows, so that none of an ended run is missed
        if busy := _busy():
            ended = False
        else:
            with contextlib.suppress(OSError):  # a network file system may fail for a moment
                self.deliver()
        if loop is not None and (busy or not (self.idle or ended)):
            self._loop = loop
            loop.call_later(EVERY, self._look)


def _busy() -> bool:
    """Whether a cell is at work: one that awaits something leaves the loop to others meanwhile."""
    return sys.modules["IPython"].get_ipython().display_trap.is_active


_OF: dict[Path, Callbacks] = {}


def on(run: Run, event: str, function: Function) -> Callback:
    """See `Run.on`."""
    if event not in EVENTS:
        raise SpecError(f"on({event!r}, ...): a run has {', '.join(EVENTS)}{nearest(str(event), EVENTS)}")
    if not callable(function):
        raise SpecError(f"on({event!r}, {function!r}): give a function of one argument, the row of the event")
    return _OF.setdefault(run.folder, Callbacks(run)).add(event, function)


def waited(run: Run) -> None:
    """Call a script's callbacks, while it waits for the run."""
    if (callbacks := _OF.get(run.folder)) is not None and not callbacks.idle and not kernel():
        callbacks.deliver()
