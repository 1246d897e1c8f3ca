"""A supervisor: forked for a run, single-threaded, and the parent of the ranks that it forks."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterable
from multiprocessing import connection
from pathlib import Path
from typing import Any

import torch

from ...engine.faults import printed
from ...errors import LabError
from ...spec import Spec
from ...store import control, provenance
from ...store.failure import Failure
from ...store.folder import RunFolder
from ...store.log import Journal
from .. import devices, failures, rank, resources
from .leases import Queue

POLL = 0.05  # seconds between looks at ranks, queue and commands
FAR = 5.0  # most seconds between looks of a run far behind in the queue
STOPS = 0.5  # most seconds between its looks for a stop
GRACE = 2.0  # seconds that the other ranks have to report after one failed
LAST = 10.0  # seconds that the other ranks have to end after one is done
ASK = 20.0  # seconds that a single rank has to reach the end of a step when told to stop; then the step is broken off
STOP = 60.0  # seconds that ranks have to reach the end of a step when told to stop


def rehearse() -> None:
    """
    Supervise a run that is called off at once, in a temporary folder, before any supervisor is forked.

    At first calls the interpreter changes what all supervisors share: it makes code faster, and notes the names of
    attributes. A supervisor that is forked after that copies 0.4 MB less.
    """
    with contextlib.suppress(OSError, LabError), tempfile.TemporaryDirectory() as place:  # no room: then without
        folder = RunFolder.create(Spec(), root=Path(place) / "runs")
        control.send(folder.path, "stop")
        queue = Queue("cpu", place)
        queue.acquire([], 1)
        queue.release()
        Supervision({"folder": str(folder.path), "world": 1}, os.open(place, os.O_RDONLY), {}, safe=True).run()


class Supervision:
    """One run from its place in the queue to its last state."""

    def __init__(self, needs: dict[str, Any], lock: int, order: dict[str, Any], safe: bool) -> None:
        self.folder = RunFolder(Path(needs["folder"]))
        self.needs, self.lock, self.order, self.safe = needs, lock, order, safe
        self.log = Journal(self.folder.path / "events" / "supervisor.jsonl", -1)
        self.ranks: list[Any] = []
        self.ends: list[connection.Connection] = []  # where each rank that ends in order says how
        self.outcomes: dict[int, str] = {}  # rank -> done or stopped, or "" of one that ended without a word
        self.killed: set[int] = set()
        self.ended: dict[int, tuple[int, float]] = {}  # rank -> exit code, time

    def run(self) -> None:
        """Lease devices, fork the ranks, watch them, and write how it ended; the run's lock is freed last."""
        signal.signal(signal.SIGTERM, lambda *_: control.send(self.folder.path, "stop"))
        signal.signal(rank.BREAK_OFF, signal.SIG_IGN)  # inherited by ranks, until they have a step to break off
        queue = None
        try:
            resources.reserve(self.folder.path, self.needs["world"])
            if control.called_off(self.folder.path):
                self._state("stopped", reason="stopped before it began")
                return
            device, label = self.needs["device"], {"run": self.folder.id, "home": str(self.folder.path.parents[1])}
            # The first of a chain has waited since it was launched; another queues when its turn has come.
            queue = Queue(device, self.order["queues"], self.order.pop("since", 0), label)
            if (slots := self._lease(queue)) is None:
                self._state("stopped", reason="stopped while it was queued")
                return
            self._as_asked()
            self._state("starting", device=device, reason=None)
            self._start(device, slots, self.needs["world"] + queue.others)
            # Beside the watch, since git may take seconds in a large repository.
            about = threading.Thread(target=provenance.write, args=(self.folder, device, self.order["cwd"]))
            about.start()
            self._watch()
            about.join()
            self._finish()
        except BaseException as error:
            self._kill(range(len(self.ranks)))
            message = failures.cut(str(error), failures.LONGEST)
            failure = Failure(-1, type(error).__name__, message, traceback=printed(error))
            self._state("failed", failure=vars(failure))
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            if queue is not None:
                queue.release()
            resources.free(self.folder.path)
            self.log.close()
            os.close(self.lock)

    def _as_asked(self) -> None:
        """Take the environment and the cores of the process that launched it, only now: it may wait beside many."""
        os.environ.clear()
        os.environ.update(self.order["env"])
        with contextlib.suppress(OSError):  # cores that we may not use any more
            os.sched_setaffinity(0, self.order["cores"])

    def _lease(self, queue: Queue) -> list[str] | None:
        count, device, waits = self.needs["world"], self.needs["device"], False
        while (slots := queue.acquire(self.needs["slots"], count)) is None:
            if not waits:
                waits = True
                reason = f"waits for {count} free {device} slot{'s' if count > 1 else ''}"
                self._state("queued", reason=reason, queue=str(queue.folder))
            # Those far behind look seldom, so that a hundred that wait leave the cores to those that run.
            until = time.monotonic() + min(POLL * max(1, queue.ahead), FAR)
            while (left := until - time.monotonic()) > 0:
                if control.stopping(self.folder.path):
                    return None
                time.sleep(min(left, STOPS))
        if waits:
            self.folder.note(reason=None)
        return slots

    def _start(self, device: str, slots: list[str], sharing: int) -> None:
        """Fork the ranks from this thread (PDEATHSIG follows the forking thread), or spawn where a fork is unsafe."""
        self.folder.note(attempt=self.folder.facts.get("attempt", 0) + 1)
        method = devices.start_method(self.safe)
        self.log.write("note", text=f"ranks start by {method}", method=method)
        context: Any = torch.multiprocessing.get_context(method)
        (self.folder.path / "rendezvous").unlink(missing_ok=True)
        for path in (self.folder.path / "errors").iterdir():
            path.unlink()
        for i in range(self.needs["world"]):
            gpu = slots[i].removeprefix("gpu") if device == "cuda" else None
            end, sender = context.Pipe(duplex=False)
            seat = rank.Seat(i, gpu, sharing)
            arguments = (str(self.folder.path), seat, self.order["cwd"], self.order["path"], sender)
            process = context.Process(target=rank.main, args=arguments, name=f"lepton-lab-rank{i}")
            process.start()
            sender.close()
            self.ranks.append(process)
            self.ends.append(end)

    def _watch(self) -> None:
        """Until the last rank is dead: note exits, and end those that a failure or a stop leaves behind."""
        deadline = stopped = None
        asked = 0.0  # when a rank was last told to break its step off
        while len(self.ended) < len(self.ranks) and self.folder.path.exists():
            alive = [i for i in range(len(self.ranks)) if i not in self.ended]
            connection.wait([self.ranks[i].sentinel for i in alive], POLL)
            now = time.monotonic()
            for i in alive:
                if not self.ranks[i].is_alive():
                    self.ended[i] = (self.ranks[i].exitcode, time.time())
                    self.outcomes[i] = _outcome(self.ends[i])
                    grace = LAST if self.outcomes[i] else GRACE
                    deadline = min(deadline or now + grace, now + grace)
            if stopped is None and control.stopping(self.folder.path):
                stopped = now
            if stopped is not None and now > max(stopped, asked) + ASK and not self._busy():
                asked = now
                # It leaves the step that a user's code stands still in; several ranks could not do so at the same one.
                if len(self.ranks) == 1 and self.ranks[0].is_alive():
                    os.kill(self.ranks[0].pid, rank.BREAK_OFF)
            late = stopped is not None and now > stopped + STOP and not self._busy()
            if late or (deadline is not None and now > deadline):
                self._kill(alive)
        self._kill(range(len(self.ranks)))  # none is left, unless somebody deleted the folder

    def _kill(self, ranks: Iterable[int]) -> None:
        for i in ranks:
            if i not in self.ended:
                self.killed.add(i)
                self.ranks[i].kill()
                self.ranks[i].join()

    def _finish(self) -> None:
        if not self.folder.path.exists():
            return
        (self.folder.path / "rendezvous").unlink(missing_ok=True)
        unkilled = self.ended.keys() - self.killed
        outcomes = {self.outcomes[i] for i in unkilled}
        if len(outcomes) == 1 and (outcome := outcomes.pop()):
            self._state(outcome)
        elif not unkilled:
            saved = self.folder.checkpoints()
            safe = f"; the checkpoint of step {saved[-1]} is there" if saved else ""
            reason = f"did not reach the end of a step within {STOP:.0f} s of the stop: killed{safe}"
            self._state("stopped", reason=reason)
        else:
            orderly = {i for i in unkilled if self.outcomes[i]}
            self._state("failed", failure=vars(failures.first(self.folder, self.ended, self.killed, orderly)))

    def _busy(self) -> bool:
        """Whether the ranks evaluate or save, which a stop waits for."""
        facts = self.folder.facts
        return facts["state"] == "stopping" or facts.get("evaluating", False)

    def _state(self, state: str, **facts: Any) -> None:
        if not self.folder.path.exists():
            return
        # The event first, so that who sees the end of a run reads all of its events.
        with contextlib.suppress(OSError):  # a full disk: the state itself is what counts
            self.log.write("state", state=state, **facts)
        resources.pressed(self.folder.path, lambda: self.folder.set_state(state, **facts))


def _outcome(end: connection.Connection) -> str:
    """What a rank that is dead said of its end: done or stopped; "" if nothing."""
    try:
        return end.recv_bytes().decode() if end.poll() else ""
    except (EOFError, OSError):
        return ""
