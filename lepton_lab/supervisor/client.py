"""The launching side: hands a run to the standby, or starts a supervisor for it; never waits for either."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import IO

from ..folders import RunFolder

CODE = "from lepton_lab.supervisor.process import main; main()"


class Supervisor:
    """
    A supervisor process as seen from here.

    It is in a session of its own and shares no pipe with us, so that neither Jupyter's interrupt nor our death
    reaches its run. A socket pair (no path, no port) carries runs to it; when we are gone it ends, once idle.

    Parameters
    ----------
    stay
        Whether it waits for another run after one; else it ends.
    errors
        File for what it prints before its first run.
    """

    def __init__(self, stay: bool, errors: IO[bytes]) -> None:
        self.owner = os.getpid()
        self.run: RunFolder | None = None
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        package = Path(__file__).parents[2]  # the same lepton_lab as ours, installed or not
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(package)])),
            # Threads that a library starts at import would not survive the fork of the ranks.
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            # A rank's threads wait for each other by spinning, and take the cores from each other as soon as anything
            # else wants one. A fifteenth of gomp's own patience was as fast where cores were free, and twice as fast
            # with three busy processes beside it on two cores.
            "GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT", "20000"),
        }
        arguments = [str(theirs.fileno()), str(self.owner), str(int(stay))]
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-c", CODE, *arguments],  # -P: no module of the user's folder shadows ours
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                env=environment,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )

    @property
    def idle(self) -> bool:
        """Whether it lives, is ours, and has no run."""
        ours = self.owner == os.getpid() and self.process.poll() is None
        return ours and (self.run is None or not self.run.alive)

    def free(self, folder: RunFolder) -> bool:
        """Whether it can take this run, whose lock we hold: it is idle, or this very run was its last."""
        return self.idle or (self.run is not None and self.run.path == folder.path and self.process.poll() is None)

    def hand(self, folder: RunFolder, lock: int, more: bool = False) -> bool:
        """Hand it a run with the lock on its folder, to be followed by more or not; False if it is found dead."""
        order = {
            "more": more,
            "folder": str(folder.path),
            "env": dict(os.environ),
            "cwd": _cwd(),
            "path": [path for path in sys.path if isinstance(path, str)],
        }
        # In memory, since a datagram may be too small for the environment and a named file could be read by others.
        with os.fdopen(os.memfd_create("lepton-lab-order"), "wb") as file:
            file.write(json.dumps(order).encode())
            file.flush()
            try:
                socket.send_fds(self.channel, [b"run"], [lock, file.fileno()])
            except OSError:
                return False
        self.run = folder
        return True

    def close(self, wait: float = 5.0) -> None:
        """Let it end: at once if it is idle, else with its run."""
        idle = self.idle
        self.channel.close()
        if idle:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(wait)


_standby: Supervisor | None = None
_lock = threading.RLock()  # cells may launch from threads
_once: list[Supervisor] = []  # kept to be reaped


def warm() -> None:
    """
    Start the standby, so that the next launch takes its first step at once; returns without waiting.

    It is a process with torch imported (about 250 MB) that ends with this one. LEPTON_LAB_STANDBY=0 has none.
    """
    global _standby
    with _lock:
        reap()
        if os.environ.get("LEPTON_LAB_STANDBY") != "0" and _standby is None:
            with tempfile.TemporaryFile() as errors:
                _standby = Supervisor(stay=True, errors=errors)


def submit(*runs: tuple[RunFolder, int]) -> None:
    """
    Hand runs, each with our lock on it, to one supervisor; ours no more. Returns without waiting.

    It does them one after the other: those to come wait in its socket, whose end they outlive, with their locks.
    """
    global _standby
    first = runs[0][0]
    with _lock:
        reap()
        try:
            if _standby and _standby.free(first) and _hand(_standby, runs):
                return
            stay = _standby is None and os.environ.get("LEPTON_LAB_STANDBY") != "0"
            with (first.path / "logs" / "supervisor.log").open("ab") as errors:
                fresh = Supervisor(stay, errors)
            _hand(fresh, runs)
            if stay:
                _standby = fresh
            else:
                fresh.channel.close()
                _once.append(fresh)
        finally:
            for _, lock in runs:
                os.close(lock)


def _hand(supervisor: Supervisor, runs: tuple[tuple[RunFolder, int], ...]) -> bool:
    *before, last = runs
    return all(supervisor.hand(*run, more=True) for run in before) and supervisor.hand(*last)


def close() -> None:
    """End the standby, if there is one, when its run is over."""
    global _standby
    with _lock:
        if _standby and _standby.owner == os.getpid():
            _standby.close()
            _once.append(_standby)
        _standby = None
        reap()


def reap() -> None:
    """Drop supervisors that have ended, so that none stays a zombie, and those of a process that forked us."""
    global _standby
    with _lock:
        _once[:] = [s for s in _once if s.owner == os.getpid() and s.process.poll() is None]
        if _standby and (_standby.owner != os.getpid() or _standby.process.poll() is not None):
            _standby.channel.close()
            _standby = None


def _cwd() -> str:
    try:
        return str(Path.cwd())
    except FileNotFoundError:  # deleted under us: ranks start at the top
        return "/"
