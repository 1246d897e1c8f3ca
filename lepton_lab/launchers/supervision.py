"""The supervisor of a run: a process on the machine that launched it, from its place in a queue to its last state."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

from ..engine.faults import printed
from ..store import control, provenance
from ..store.failure import Failure
from ..store.folder import RunFolder
from ..store.log import Journal
from . import failures, rank, resources

POLL = 0.05  # seconds between looks at ranks, queue and commands
ASK = 20.0  # seconds that ranks have to reach the end of a step when told to stop; then they are to break it off
STOP = 60.0  # seconds until they are ended by force

End = tuple[str, dict[str, Any]]
"""One of `store.folder`'s ENDED, and facts that go with it, such as `reason` or `failure`."""


class Supervision:
    """
    One run from its place in the queue to its last state; a launcher's own overrides the hooks.

    It is single-threaded but for a short look at the user's code, and so may fork. Ranks take a person's commands from
    the run's folder; what a launcher has to do for that is nothing.

    Parameters
    ----------
    needs
        What was found out when it was launched: `folder`, `device`, `slots`, `world`, `beside` (see `Ready`),
        whether it `compresses`, and `launcher`, the facts of that, if it is not this machine.
    lock
        File descriptor that holds the lock on its folder.
    order
        What it must know of the launching process: `cwd`, `path` (of modules), `env`, `cores`, `queues`.
    safe
        Whether this process has one thread only.

    Attributes
    ----------
    stopped : float or None
        When a stop was seen, by the monotonic clock.
    """

    def __init__(self, needs: dict[str, Any], lock: int, order: dict[str, Any], safe: bool) -> None:
        self.folder = RunFolder(Path(needs["folder"]))
        self.needs, self.lock, self.order, self.safe = needs, lock, order, safe
        self.log = Journal(self.folder.path / "events" / "supervisor.jsonl", -1)
        self.stopped: float | None = None
        self._asked = 0.0  # when ranks were last told to break their step off

    def lease(self) -> list[str] | None:
        """Wait for devices of this machine; None if a stop came first. Ranks elsewhere, or few, need none."""
        return []

    def start(self, slots: list[str]) -> None:
        """Have the ranks begin, on what was leased; returns without waiting for them."""
        raise NotImplementedError

    def state(self) -> End | None:
        """How the ranks ended, or None while they go on. Asked again and again; waits for news, POLL at most."""
        raise NotImplementedError

    def signal(self, number: int) -> None:
        """
        Tell ranks what no command in the folder can.

        SIGKILL ends them by force; `rank.BREAK_OFF` has one leave a step that stands still, where that can be done.
        """
        raise NotImplementedError

    def collect(self) -> None:
        """
        End what is left of the ranks, and give back what was leased.

        Called once and last of all, whatever happened: also where `start` raised, was not reached, or the run's folder
        was deleted.
        """

    def run(self) -> None:
        """Do all of it, and write how it ended; the run's lock is freed last."""
        signal.signal(signal.SIGTERM, lambda *_: control.send(self.folder.path, "stop"))
        signal.signal(rank.BREAK_OFF, signal.SIG_IGN)  # inherited by ranks, until they have a step to break off
        try:
            end = self._course()
        except BaseException as error:
            message = failures.cut(str(error), failures.LONGEST)
            end = "failed", {"failure": vars(Failure(-1, type(error).__name__, message, traceback=printed(error)))}
        try:
            if end is not None:
                state, facts = end
                self.tell(state, **facts)
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            resources.free(self.folder.path)
            self.log.close()
            os.close(self.lock)

    def _course(self) -> End | None:
        """The run's course, and how it ended; None where somebody deleted its folder."""
        resources.reserve(self.folder.path, self.needs["world"])
        if control.called_off(self.folder.path):
            return "stopped", {"reason": "stopped before it began"}
        try:
            if (slots := self.lease()) is None:
                return "stopped", {"reason": "stopped while it was queued"}
            self._as_asked()
            device = self.needs["device"]
            self.tell("starting", device=device, reason=None)
            self.start(slots)
            # Beside the watch, since git may take seconds in a large repository.
            about = threading.Thread(target=provenance.write, args=(self.folder, device, self.order["cwd"]))
            about.start()
            end = self._watch()
            about.join()
            return end
        finally:
            self.collect()

    def _as_asked(self) -> None:
        """Take the environment and the cores of the process that launched it, only now: it may wait beside many."""
        os.environ.clear()
        os.environ.update(self.order["env"])
        with contextlib.suppress(OSError):  # cores that we may not use any more
            os.sched_setaffinity(0, self.order["cores"])

    def _watch(self) -> End | None:
        while self.folder.path.exists():
            if (end := self.state()) is not None:
                return end
            if self._overdue():
                self.signal(signal.SIGKILL)
                return self.state() or ("stopped", {"reason": self._late()})
        return None

    def _overdue(self) -> bool:
        """Whether a stop has waited for too long; evaluating and saving may take what they take."""
        now = time.monotonic()
        if self.stopped is None:
            self.stopped = now if control.stopping(self.folder.path) else None
            return False
        asks, ends = now > max(self.stopped, self._asked) + ASK, now > self.stopped + STOP
        if not (asks or ends) or self._busy():
            return False
        if asks:
            self._asked = now
            self.signal(rank.BREAK_OFF)
        return ends

    def _busy(self) -> bool:
        """Whether the ranks evaluate or save, which a stop waits for."""
        facts = self.folder.facts
        return facts["state"] == "stopping" or facts.get("evaluating", False)

    def _late(self) -> str:
        saved = self.folder.checkpoints()
        safe = f"; the checkpoint of step {saved[-1]} is there" if saved else ""
        return f"did not reach the end of a step within {STOP:.0f} s of the stop: killed{safe}"

    def tell(self, state: str, **facts: Any) -> None:
        """Write how it stands, as an event too."""
        if not self.folder.path.exists():
            return
        # The event first, so that who sees the end of a run reads all of its events.
        with contextlib.suppress(OSError):  # a full disk: the state itself is what counts
            self.log.write("state", state=state, **facts)
        resources.pressed(self.folder.path, lambda: self.folder.set_state(state, **facts))
