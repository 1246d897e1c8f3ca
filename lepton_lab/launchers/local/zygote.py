"""The warm process of a kernel: what a first step needs is imported, and a supervisor is forked for each run."""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import os
import resource
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path
from typing import Any

from ...errors import LabError
from ...host import entitle, fork_alone, threads
from .. import of
from ..warm import WARM

COMPRESSING = ("lepton_lab.measures.delivery", "lepton_lab.artifacts.quantizing")
"""What the end of a chain imports besides, which takes seconds: here before the first that comes, for all others."""
FILES = 65536  # descriptors that it may hold: each run that waits for the imports to end takes one


def main() -> None:
    """Serve the kernel: the command line names the socket, the kernel's pidfd, and how long to stay when idle."""
    entitle("lepton-warming")
    files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(files[0], min(files[1], FILES)), files[1]))
    inbox = Inbox(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]))
    with inbox.watched():
        preload()
    entitle("lepton-warm")
    serve(inbox, float(sys.argv[3]), files)
    os._exit(0)  # torch's own end takes a while


def preload(names: Sequence[str] = WARM, rehearsal: str = "lepton_lab.launchers.local.supervisor") -> None:
    """Import what would be imported lazily, and start no thread: what forked processes get for nothing."""
    import gc

    import torch

    torch.set_num_threads(1)  # first of all: one parallel operation here and children with threads would hang
    for name in names:
        with contextlib.suppress(ImportError):  # of an extra that is not installed
            importlib.import_module(name)
    with contextlib.suppress(ImportError, LabError):
        importlib.import_module(rehearsal).rehearse()
    gc.collect()
    gc.freeze()  # or a full collection in a rank would copy every page that it shares with us


@dataclass
class Order:
    """Runs to be done by one supervisor, one after the other; the locks on their folders; and the rest."""

    values: dict[str, Any]
    runs: list[dict[str, Any]]
    locks: list[int]

    def drop(self) -> None:
        """Close our copies of the locks."""
        for lock in self.locks:
            os.close(lock)


class Inbox:
    """
    What the kernel sent and nobody was forked for yet.

    Parameters
    ----------
    channel
        Our end of the socket pair.
    kernel
        A pidfd of the process that launches.

    Attributes
    ----------
    ended : bool
        Whether nothing more can come; what came before is still taken.
    """

    def __init__(self, channel: socket.socket, kernel: int) -> None:
        self.channel, self.kernel = channel, kernel
        self.orders: deque[Order] = deque()
        self.ended = False
        self._begun: Order | None = None  # the first part of what takes several messages

    @property
    def empty(self) -> bool:
        """Whether nothing came, nor a part of it, and more may come."""
        return not (self.orders or self._begun or self.ended)

    def wait(self, *others: int, seconds: float | None = None) -> set[int]:
        """Take in what comes, until something did, one of the others can be read or time is over; returns those."""
        ready: set[Any] = set(connection.wait([self.channel.fileno(), self.kernel, *others], seconds))
        if ready - set(others):
            self._take()
            self.ended |= self.kernel in ready
        return ready & set(others)

    @contextlib.contextmanager
    def watched(self) -> Any:
        """While the main thread is busy: the socket holds some 280 messages, and the kernel never waits for room."""
        done = os.eventfd(0)

        def watch() -> None:
            while not self.wait(done):
                if self.ended:
                    return None if self.orders else os._exit(0)

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        yield
        os.eventfd_write(done, 1)
        thread.join()
        os.close(done)
        deadline = time.monotonic() + 1
        while threads() > 1 and time.monotonic() < deadline:  # it has ended a moment before it is gone
            time.sleep(0.001)

    def shut(self) -> None:
        """Let nothing more come in: the kernel is told at its next attempt."""
        self.channel.shutdown(socket.SHUT_RD)
        self._take()

    def leave(self, order: Order) -> None:
        """In a supervisor: tell the kernel that its runs are taken, and let go of all that is not its own."""
        with contextlib.suppress(OSError):
            self.channel.send(str(order.values["number"]).encode(), socket.MSG_DONTWAIT)
        self.channel.close()
        os.close(self.kernel)
        for other in (*self.orders, *filter(None, [self._begun])):
            other.drop()

    def _take(self) -> None:
        while not self.ended:
            try:
                message, ancillary, _, _ = self.channel.recvmsg(16, socket.CMSG_SPACE(4 * 253), socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError:  # the kernel died with something unread
                message = b""
            if message:
                self._receive(ancillary)
            self.ended = not message

    def _receive(self, ancillary: list[tuple[int, int, bytes]]) -> None:
        numbers = memoryview(b"".join(data for _, _, data in ancillary)).cast("i")
        file, locks = numbers[0], list(numbers[1:])
        for lock in locks:
            os.set_inheritable(lock, False)  # forked ranks keep it; a program that user code starts must not
        with os.fdopen(file, "rb") as order:
            order.seek(0)
            values = json.loads(order.read())
        if self._begun is None:
            self._begun = Order(values, [], [])
        self._begun.runs += values["runs"]
        self._begun.locks += locks
        if not values["more"]:
            self.orders.append(self._begun)
            self._begun = None


def serve(inbox: Inbox, stay: float, files: tuple[int, int]) -> None:
    """Fork a supervisor for whatever comes, until the kernel is gone, or none came for `stay` seconds after a run."""
    from . import supervisor  # here, once: each page that a fork touches is copied

    supervisors: dict[int, int] = {}  # pidfd -> pid
    while True:
        while inbox.orders:
            if COMPRESSING[0] not in sys.modules and any(run["compresses"] for run in inbox.orders[0].runs):
                with inbox.watched():
                    preload(COMPRESSING, "lepton_lab.artifacts.onnx_graph")
            order = inbox.orders.popleft()
            safe = threads() == 1
            if (pid := fork_alone() if safe else os.fork()) == 0:
                _supervise(supervisor, order, inbox, safe, files, supervisors)
            order.drop()
            supervisors[os.pidfd_open(pid)] = pid
        if inbox.ended:
            return
        left = None if supervisors or stay == math.inf else stay
        for ended in inbox.wait(*supervisors, seconds=left):
            os.waitpid(supervisors.pop(ended), 0)
            os.close(ended)
        if left is not None and inbox.empty:
            inbox.shut()


def _supervise(process: Any, order: Order, inbox: Inbox, safe: bool, files: tuple[int, int], others: Any) -> None:
    """Be the supervisor of some runs: in a session of our own, so that nobody's end is ours. Never returns."""
    try:
        os.setsid()
        entitle("lepton-super")
        inbox.leave(order)
        for other in others:
            os.close(other)
        resource.setrlimit(resource.RLIMIT_NOFILE, files)
        for needs, lock in zip(order.runs, order.locks, strict=True):
            process.rank.redirect(Path(needs["folder"]) / "logs" / "supervisor.log")
            of(needs).supervision()(needs, lock, order.values, safe).run()
    finally:
        os._exit(0)
