"""The launching side: hands runs to the kernel's warm process, which forks a supervisor for each; never waits."""

from __future__ import annotations

import array
import contextlib
import json
import math
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...errors import SpecError
from ...host import SPINS, child, release_memory
from ...store.failure import Failure
from ...store.folder import RunFolder
from ...store.objects import starting
from .. import devices
from ..base import Ready
from . import leases

CODE = "from lepton_lab.launchers.local.zygote import main; main()"
MOST = 200  # descriptors in a message; Linux takes 253


class Warm:
    """
    The warm process as seen from here.

    It is in a session of its own and shares no pipe with us, so that neither Jupyter's interrupt nor our death
    reaches it. A socket pair (no path, no port) carries runs to it, and back the number of each that was taken by a
    supervisor. When we are gone it ends; the supervisors that it forked don't.

    Parameters
    ----------
    stay
        Seconds that it waits for more runs once its own have ended.
    """

    def __init__(self, stay: float) -> None:
        self.untaken: dict[int, tuple[dict[str, Any], Sequence[Ready], bool]] = {}  # order, runs, whether it was twice
        self._number = 0
        self._listener: threading.Thread | None = None
        self._output = os.memfd_create("lepton-lab-output")
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environment = {
            # Threads that a library starts at import would not survive the forks.
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            **SPINS,
        }
        # Of us, for it to see our end: that of the socket may never come, where a child that we forked holds it open.
        us = os.pidfd_open(os.getpid())
        with theirs:
            self.process = child(
                ["-c", CODE, str(theirs.fileno()), str(us), str(stay)],
                environment,
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=self._output,
                pass_fds=[theirs.fileno(), us],
                start_new_session=True,
            )
        os.close(us)

    def hand(self, order: dict[str, Any], runs: Sequence[Ready], again: bool = False) -> OSError | None:
        """Hand it runs with the locks on their folders; the error if it is dead, or too much waits for it."""
        self._number += 1
        needs = [_needs(run) for run in runs]
        try:
            for begin in range(0, len(runs), MOST):
                end = begin + MOST
                part = {**order, "number": self._number, "more": end < len(runs), "runs": needs[begin:end]}
                self._send(part, runs[begin:end])
        except OSError as error:
            return error
        self.untaken[self._number] = order, runs, again
        _handed.update(run.folder.path for run in runs)
        if self._listener is None:
            self._listener = threading.Thread(target=self._listen, name="lepton-lab-launch", daemon=True)
            self._listener.start()
        return None

    def _send(self, order: dict[str, Any], runs: Sequence[Ready]) -> None:
        # In memory, since a datagram may be too small for the environment and a named file could be read by others.
        with os.fdopen(os.memfd_create("lepton-lab-order"), "wb") as file:
            file.write(json.dumps(order).encode())
            file.flush()
            descriptors = array.array("i", [file.fileno(), *(run.lock for run in runs)])
            ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)]
            self.channel.sendmsg([b"run"], ancillary, socket.MSG_DONTWAIT)

    def _listen(self) -> None:
        """Until each run is taken. Supervisors hold the socket until they said so: its end means that none will."""
        while True:
            try:
                number = self.channel.recv(32)
            except OSError:
                number = b""
            with _lock:
                if number:
                    _, runs, _ = self.untaken.pop(int(number), (None, (), None))
                    _handed.difference_update(run.folder.path for run in runs)
                else:
                    self._lost()
                if not self.untaken:
                    self._listener = None
                    if _warm is not self:
                        self.close()
                    return

    def _lost(self) -> None:
        """Hand what it took to its death to another; what another has by now, or was handed twice, not again."""
        global _warm
        if _warm is self:
            _warm = None
        lost, self.untaken = self.untaken, {}
        for order, runs, again in lost.values():
            _handed.difference_update(run.folder.path for run in runs)
            held = [replace(run, lock=lock) for run in runs if (lock := _retake(run.folder)) is not None]
            if again:
                _give_up(held, self.said())
            elif held:
                try:
                    _hand(order, held, again=True)
                except SpecError as error:  # the environment has changed meanwhile
                    _give_up(held, str(error))
            for run in held:
                os.close(run.lock)

    def said(self) -> str:
        """The last line that it printed."""
        text = os.pread(self._output, 1 << 20, 0).decode(errors="replace")
        return next((line for line in reversed(text.splitlines()) if line.strip()), "")

    def close(self) -> None:
        """Let it end, once it has taken what was handed to it."""
        if self._listener is None:
            self.channel.close()
            os.close(self._output)
        else:  # which closes the rest
            with contextlib.suppress(OSError):
                self.channel.shutdown(socket.SHUT_WR)


_warm: Warm | None = None
_lock = threading.RLock()  # cells may launch from threads
_processes: list[subprocess.Popen[bytes]] = []  # kept to be reaped
_handed: set[Path] = set()
"""Folders of runs that a warm process has and no supervisor yet: one that dies drops their locks before we know."""


def warm() -> None:
    """
    Start the warm process, so that the next launch takes its first step at once; returns without waiting.

    It is a process with torch imported (about 250 MB) that ends with this one. LEPTON_LAB_STANDBY says for how many
    seconds it waits after a run; then there is none before the first.

    Raises
    ------
    SpecError
        If LEPTON_LAB_STANDBY is no such number.
    """
    with _lock:
        collect()
        if devices.standby() == math.inf:
            _get()


def start(*runs: Ready) -> None:
    """
    Hand runs, each with our lock on it, to one supervisor; ours no more. Returns without waiting.

    It does them one after the other, and holds the locks of those to come.
    """
    with _lock:
        collect()
        try:
            _hand(_order(), runs)
        finally:
            for run in runs:
                os.close(run.lock)
    starting.begin()
    release_memory()  # their ranks need what a cell before has freed


def state(folder: RunFolder) -> str:
    """How a run stands: one of LIVE or ENDED; ours are dead once nobody holds the lock on their folder."""
    with _lock:
        return folder.facts["state"] if folder.path in _handed else folder.state


def close() -> None:
    """End the warm process, if there is one, and wait for that; runs go on."""
    global _warm
    with _lock:
        last, _warm = _warm, None
        if last:
            last.close()
    if last:
        with contextlib.suppress(subprocess.TimeoutExpired):
            last.process.wait(30)
    collect()


def collect() -> None:
    """Drop a warm process that has ended, so that it does not stay a zombie."""
    global _warm
    with _lock:
        if _warm and _warm.process.poll() is not None and not _warm.untaken:
            _warm.close()
            _warm = None
        _processes[:] = [process for process in _processes if process.poll() is None]
    starting.collect()


def _get() -> Warm:
    global _warm
    if _warm is None:
        _warm = Warm(devices.standby())
        _processes.append(_warm.process)
    return _warm


def _order() -> dict[str, Any]:
    """What a supervisor must know of the launching process."""
    return {
        "since": time.time_ns(),
        "queues": str(leases.root()),
        "env": dict(os.environ),
        "cores": sorted(os.sched_getaffinity(0)),
        "cwd": _cwd(),
        "path": [path for path in sys.path if isinstance(path, str)],
    }


def _needs(run: Ready) -> dict[str, Any]:
    """What a run needs: found out here, so that a supervisor that waits does little, and so takes little memory."""
    path, slots = str(run.folder.path), devices.slots(run.device)
    spec = run.folder.spec
    compresses = bool(spec.compress)
    needs = {"folder": path, "device": run.device, "slots": slots, "world": spec.world, "compresses": compresses}
    return needs | {"launcher": run.folder.facts.get("launcher"), "beside": min(run.beside, len(slots))}


def _hand(order: dict[str, Any], runs: Sequence[Ready], again: bool = False) -> None:
    global _warm
    first = _get()
    if first.hand(order, runs, again) is None:
        return
    # It has died, or does not come to take what waits for it: another one will.
    _warm = None
    first.close()
    if (error := _get().hand(order, runs, again)) is not None:
        _give_up(runs, str(error))


def _retake(folder: RunFolder) -> int | None:
    """Our lock on a run that nobody has begun, or None."""
    lock = None if folder.gone else folder.lock()
    if lock is not None and folder.facts["state"] != "queued":
        os.close(lock)
        return None
    return lock


def _give_up(runs: Sequence[Ready], why: str) -> None:
    message = f"the process that forks supervisors does not take it{f': {why}' if why else ''}"
    for run in runs:
        run.folder.set_state("failed", failure=vars(Failure(-1, "LabError", message)), reason=None)


def _forget() -> None:
    """In a child that our process forked: the warm process is the parent's, and a lock may have been held."""
    global _warm, _lock
    if _warm:
        _warm.channel.close()
    _warm, _lock = None, threading.RLock()
    _handed.clear()
    for process in _processes:
        process.returncode = 0  # not ours to wait for
    _processes.clear()


os.register_at_fork(after_in_child=_forget)


def _cwd() -> str:
    try:
        return str(Path.cwd())
    except FileNotFoundError:  # deleted under us: ranks start at the top
        return "/"
