"""Leases of devices: flocked slot files and tickets on a local path. No daemon; a crash leaves nothing to clean."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from ...errors import LabError
from ...files import locked


def root() -> Path:
    """A folder of this user on this host: devices are per host, and flock is unsure on network file systems."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    place = runtime if runtime and os.access(runtime, os.W_OK) else tempfile.gettempdir()
    return Path(place) / f"lepton-lab-{os.getuid()}"


class Queue:
    """
    A place in the queue for one kind of device.

    A ticket is a locked file, named by when it was asked for. The head of the queue is the oldest ticket that is still
    locked; it alone takes slots, as they come free. Locks belong to the open files, which ranks inherit: a slot is free
    when the last process that computes on it is dead.

    Parameters
    ----------
    kind
        "cpu", "cuda", or whatever else this user's runs on this host take turns at.
    place
        Folder of all queues, `root()` if not given.
    since
        When it was asked for, in nanoseconds since the epoch; now, if not given.
    label
        What the slot files tell of the holder, beside its process id, and its ticket of who waits.

    Raises
    ------
    LabError
        If another user made the folder of all queues.

    Attributes
    ----------
    ahead : int
        Tickets before ours, as `acquire` last saw them.
    others : int
        Slots that others held when we got ours.
    """

    def __init__(self, kind: str, place: str = "", since: int = 0, label: dict[str, Any] | None = None) -> None:
        top = Path(place or root())
        self.folder = top / kind
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if top.stat().st_uid != os.getuid():  # whoever holds its locks could hold up our runs
            raise LabError(f"{str(top)!r} belongs to another user: set XDG_RUNTIME_DIR to a folder of your own")
        self.ahead = self.others = 0
        self._label = label or {}
        self._held: dict[str, int] = {}
        self._ticket = self.folder / f"{since or time.time_ns():020d}-{os.getpid()}"
        # Locked under a hidden name first: a ticket that can be seen is held.
        draft = self.folder / f".{self._ticket.name}"
        self._lock: int | None = os.open(draft, os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        os.write(self._lock, json.dumps(self._label).encode())
        draft.rename(self._ticket)

    def acquire(self, slots: list[str], count: int) -> list[str] | None:
        """Try to hold `count` of the slots: their names once all are held, None as long as others are before."""
        self._look()
        if self.ahead:
            self._free()  # an older one came late: it must not wait for what waits for it
            return None
        for slot in slots:
            if slot not in self._held and len(self._held) < count:
                descriptor = _try_lock(self.folder / slot, os.O_CREAT | os.O_RDWR)
                if descriptor is not None:
                    self._held[slot] = descriptor
                    os.ftruncate(descriptor, 0)
                    os.pwrite(descriptor, json.dumps({"pid": os.getpid(), **self._label}).encode(), 0)
        if len(self._held) < count:
            return None
        self.others = sum(locked(self.folder / slot) for slot in slots if slot not in self._held)
        self._leave()
        return sorted(self._held)

    def release(self) -> None:
        """Give up this process's hold of ticket and slots; ranks that inherited them keep theirs."""
        self._leave()
        self._free()

    def _free(self) -> None:
        for descriptor in self._held.values():
            os.close(descriptor)
        self._held.clear()

    def _leave(self) -> None:
        if self._lock is not None:
            self._ticket.unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = None

    def _look(self) -> None:
        """Count the tickets before ours; an oldest one whose owner is dead is swept away."""
        own = self._ticket.name
        older = sorted(name for name in os.listdir(self.folder) if name[0].isdigit() and name < own)
        for i, name in enumerate(older):
            ticket = self.folder / name
            descriptor = _try_lock(ticket, os.O_RDWR)
            if descriptor is None and ticket.exists():
                self.ahead = len(older) - i
                return
            if descriptor is not None:
                ticket.unlink(missing_ok=True)
                os.close(descriptor)
        self.ahead = 0


def _try_lock(path: Path, flags: int) -> int | None:
    """A descriptor that holds the lock on a file; None if another has it, or there is no such file."""
    try:
        descriptor = os.open(path, flags, 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def ahead(folder: Path, label: dict[str, Any]) -> int:
    """How many wait in a queue's folder before the one of a label; 0 where that is the first, or does not wait."""
    before = 0
    with contextlib.suppress(OSError):
        for ticket in filter(locked, sorted(folder.glob("[0-9]*"))):
            with contextlib.suppress(OSError, ValueError):
                if json.loads(ticket.read_text()) == label:
                    return before
            before += 1
    return 0


def holders(folder: Path) -> list[dict[str, Any]]:
    """
    Labels and `pid` of the processes that hold slots in a queue's folder now.

    What a slot file tells counts only while the file is locked, and the process that wrote it lives.
    """
    labels = []
    with contextlib.suppress(OSError):
        for slot in filter(locked, sorted(folder.glob("[a-z]*"))):
            with contextlib.suppress(OSError, ValueError):
                label = json.loads(slot.read_text())
                os.kill(label["pid"], 0)
                if label not in labels:
                    labels.append(label)
    return labels
