"""A limit on the memory of a process and all below it, without any privilege: what goes over it is killed."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any

import psutil

from lepton_lab.host import memory

EVERY = 0.2  # seconds between two looks
CHANGED = 4e6  # bytes of a process's resident size, cheap to read, from which on its share is asked for again
STALE = 1.0  # seconds after which it is anyway: a page that is no more shared leaves the size as it was
ROLES = ("server", "kernels", "supervisor", "ranks", "others")


class Limit(threading.Thread):
    """
    Watch a tree of processes, for use in a `with`, and kill all of it once it takes more than it may.

    Memory is the sum of proportional set sizes, in which a page that several share is counted once: what a control
    group would charge but for the cache of files. A limit on address space would not do, since torch reserves far
    more of it than it takes.

    Parameters
    ----------
    pid
        The process at the top of the tree.
    most
        Bytes that the tree may take.

    Attributes
    ----------
    peak : int
        Most bytes that the tree took at a time.
    peaks : dict
        Most bytes that the processes of each role took at a time.
    exceeded : bool
        Whether the tree was killed.
    """

    def __init__(self, pid: int, most: float) -> None:
        super().__init__(daemon=True)
        self.top, self.most = psutil.Process(pid), most
        self.peak, self.peaks, self.exceeded = 0, dict.fromkeys(ROLES, 0), False
        self._over = threading.Event()
        self._known: dict[int, tuple[int, float, int]] = {}  # by pid: resident size, when, and the share

    def __enter__(self) -> Limit:
        self.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._over.set()
        self.join()

    def run(self) -> None:
        """Look at the tree until it is told to end, or the tree goes over its limit."""
        while not self._over.wait(EVERY):
            taken = dict.fromkeys(ROLES, 0)
            tree = self.tree()
            if {process.pid for process in tree} != self._known.keys():  # pages are shared anew
                self._known.clear()
            for process in tree:
                with contextlib.suppress(psutil.Error, OSError):  # it has just ended
                    taken[role(process, self.top)] += self._memory(process)
            self.peak = max(self.peak, sum(taken.values()))
            self.peaks = {name: max(self.peaks[name], taken[name]) for name in ROLES}
            if self.peak > self.most:
                self.exceeded = True
                kill(tree)
                return

    def _memory(self, process: psutil.Process) -> int:
        """A process's share: 20 ms of a core for each gigabyte, which at each look would slow what is measured."""
        resident, now = process.memory_info().rss, time.monotonic()
        before, then, share = self._known.get(process.pid, (0, 0.0, 0))
        if abs(resident - before) >= CHANGED or now > then + STALE:
            share = memory(process.pid)
            self._known[process.pid] = resident, now, share
        return share

    def tree(self) -> list[psutil.Process]:
        """The process at the top, and all below it."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return [self.top, *self.top.children(recursive=True)]
        return []


def role(process: psutil.Process, top: psutil.Process) -> str:
    """What a process is in a notebook's work: one of ROLES."""
    if process.pid == top.pid:
        return "server"
    if (name := process.name()).startswith("lepton-"):
        return "ranks" if name.startswith("lepton-rank") else "supervisor"
    return "kernels" if "ipykernel_launcher" in " ".join(process.cmdline()) else "others"


def kill(processes: list[psutil.Process]) -> None:
    """End processes at once, as the kernel ends what goes over a limit."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    deadline = time.monotonic() + 10
    while any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes):
        if time.monotonic() > deadline:
            raise RuntimeError("what went over its limit does not end")
        time.sleep(0.05)
