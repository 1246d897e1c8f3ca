"""The supervisor of a run on this machine: single-threaded, and the parent of the ranks that it forks."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import time
from collections.abc import Iterable
from multiprocessing import connection
from pathlib import Path
from typing import Any

import torch

from ...errors import LabError
from ...spec import Spec
from ...store import control
from ...store.folder import RunFolder
from .. import devices, failures, rank
from ..supervision import POLL, End, Supervision
from .leases import Queue

FAR = 5.0  # most seconds between looks of a run far behind in the queue
STOPS = 0.5  # most seconds between its looks for a stop
LAST = 10.0  # seconds that the other ranks have to end after one is done


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
        Forks({"folder": str(folder.path), "world": 1}, os.open(place, os.O_RDONLY), {}, safe=True).run()


class Forks(Supervision):
    """One run whose ranks are children of this process."""

    def __init__(self, needs: dict[str, Any], lock: int, order: dict[str, Any], safe: bool) -> None:
        super().__init__(needs, lock, order, safe)
        self.queue: Queue | None = None
        self.ranks: list[Any] = []
        self.ends: list[connection.Connection] = []  # where each rank that ends in order says how
        self.outcomes: dict[int, str] = {}  # rank -> done or stopped, or "" of one that ended without a word
        self.killed: set[int] = set()
        self.ended: dict[int, tuple[int, float]] = {}  # rank -> exit code, time
        self._deadline: float | None = None  # of those that go on after one has ended

    def lease(self) -> list[str] | None:
        """A slot a rank, oldest run first."""
        self.queue = ticket(self, self.needs["device"])
        return waited_for_devices(self, self.queue)

    def start(self, slots: list[str]) -> None:
        """Fork the ranks from this thread (PDEATHSIG follows the forking thread), or spawn where a fork is unsafe."""
        self.folder.note(attempt=self.folder.facts.get("attempt", 0) + 1)
        method = devices.start_method(self.safe)
        self.log.write("note", text=f"ranks start by {method}", method=method)
        context: Any = torch.multiprocessing.get_context(method)
        (self.folder.path / "rendezvous").unlink(missing_ok=True)
        for path in (self.folder.path / "errors").iterdir():
            path.unlink()
        sharing = max(self.needs["world"] + (self.queue.others if self.queue else 0), self.needs["beside"])
        for i in range(self.needs["world"]):
            gpu = slots[i].removeprefix("gpu") if self.needs["device"] == "cuda" else None
            end, sender = context.Pipe(duplex=False)
            seat = rank.Seat(i, gpu, sharing)
            arguments = (str(self.folder.path), seat, self.order["cwd"], self.order["path"], sender)
            process = context.Process(target=rank.main, args=arguments, name=f"lepton-lab-rank{i}")
            process.start()
            sender.close()
            self.ranks.append(process)
            self.ends.append(end)

    def state(self) -> End | None:
        """Note exits, and end those that a failure or another's end leaves behind."""
        alive = [i for i in range(len(self.ranks)) if i not in self.ended]
        connection.wait([self.ranks[i].sentinel for i in alive], POLL)
        now = time.monotonic()
        for i in alive:
            if not self.ranks[i].is_alive():
                self.ended[i] = (self.ranks[i].exitcode, time.time())
                self.outcomes[i] = _outcome(self.ends[i])
                grace = LAST if self.outcomes[i] else failures.GRACE
                self._deadline = min(self._deadline or now + grace, now + grace)
        if self._deadline is not None and now > self._deadline:
            self._kill(alive)
        return self._end() if len(self.ended) == len(self.ranks) else None

    def signal(self, number: int) -> None:
        """To ranks that live; several could not leave the same step, and so none is told to."""
        if number == signal.SIGKILL:
            self._kill(range(len(self.ranks)))
        elif len(self.ranks) == 1 and self.ranks[0].is_alive():
            os.kill(self.ranks[0].pid, number)

    def collect(self) -> None:
        """As the contract says."""
        self._kill(range(len(self.ranks)))  # none is left, unless somebody deleted the folder
        (self.folder.path / "rendezvous").unlink(missing_ok=True)
        if self.queue is not None:
            self.queue.release()

    def _kill(self, ranks: Iterable[int]) -> None:
        for i in ranks:
            if i not in self.ended:
                self.killed.add(i)
                self.ranks[i].kill()
                self.ranks[i].join()

    def _end(self) -> End | None:
        """What the ranks that ended by themselves come to; None if none did."""
        unkilled = self.ended.keys() - self.killed
        if not unkilled:
            return None
        outcomes = {self.outcomes[i] for i in unkilled}
        if len(outcomes) == 1 and (outcome := outcomes.pop()):
            return outcome, {}
        orderly = {i for i in unkilled if self.outcomes[i]}
        return "failed", {"failure": vars(failures.first(self.folder, self.ended, self.killed, orderly))}


def ticket(run: Supervision, kind: str) -> Queue:
    """A run's place in a queue of this machine."""
    label = {"run": run.folder.id, "home": str(run.folder.path.parents[1])}
    # The first of a chain has waited since it was launched; another queues when its turn has come.
    return Queue(kind, run.order["queues"], run.order.pop("since", 0), label)


def waited_for_devices(run: Supervision, queue: Queue) -> list[str] | None:
    """A slot a rank, once the queue gives them; None if a stop came first."""
    count, device = run.needs["world"], run.needs["device"]
    return waited(run, queue, run.needs["slots"], count, f"waits for {count} free {device} slot{'s' * (count > 1)}")


def waited(run: Supervision, queue: Queue, all_slots: list[str], count: int, reason: str) -> list[str] | None:
    """As many of some slots, once the queue gives them; None if a stop came first. `reason` says what it waits for."""
    waits = False
    while (slots := queue.acquire(all_slots, count)) is None:
        if not waits:
            waits = True
            run.tell("queued", reason=reason, queue=str(queue.folder))
        # Those far behind look seldom, so that a hundred that wait leave the cores to those that run.
        until = time.monotonic() + min(POLL * max(1, queue.ahead), FAR)
        while (left := until - time.monotonic()) > 0:
            if control.stopping(run.folder.path):
                return None
            time.sleep(min(left, STOPS))
    if waits:
        run.folder.note(reason=None)
    return slots


def _outcome(end: connection.Connection) -> str:
    """What a rank that is dead said of its end: done or stopped; "" if nothing."""
    try:
        return end.recv_bytes().decode() if end.poll() else ""
    except (EOFError, OSError):
        return ""
