"""Leases of devices: flocked slot files and tickets on a local path. No daemon; a crash leaves nothing to clean."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ..spec import LabError


def root() -> Path:
    """A folder of this user on this host: devices are per host, and flock is unsure on network file systems."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    place = runtime if runtime and os.access(runtime, os.W_OK) else tempfile.gettempdir()
    return Path(place) / f"lepton-lab-{os.getuid()}"


class Queue:
    """
    A place in the queue for one kind of device.

    A ticket is a locked file with the next number. The head of the queue is the lowest ticket that is still locked; it
    alone takes slots, as they come free. Locks belong to the open files, which ranks inherit: a slot is free when the
    last process that computes on it is dead.

    Parameters
    ----------
    kind
        "cpu" or "cuda".
    """

    def __init__(self, kind: str) -> None:
        self._folder = root() / kind
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if root().stat().st_uid != os.getuid():  # whoever holds its locks could hold up our runs
            raise LabError(f"{str(root())!r} belongs to another user: set XDG_RUNTIME_DIR to a folder of your own")
        self._held: dict[str, int] = {}
        with self._mutex():
            number = 1 + max((int(p.name) for p in self._folder.glob("[0-9]*")), default=0)
            self._ticket = self._folder / f"{number:012d}"
            # Locked under a hidden name first: a ticket that can be seen is held.
            draft = self._folder / f".{number:012d}"
            self._lock: int | None = os.open(draft, os.O_CREAT | os.O_RDWR, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            draft.rename(self._ticket)

    def acquire(self, slots: list[str], count: int) -> list[str] | None:
        """Try to hold `count` of the slots: their names once all are held, None as long as others are before."""
        if self._head() != self._ticket:
            return None
        for slot in slots:
            if slot not in self._held and len(self._held) < count:
                descriptor = _try_lock(self._folder / slot)
                if descriptor is not None:
                    self._held[slot] = descriptor
        if len(self._held) < count:
            return None
        self._leave()
        return sorted(self._held)

    def release(self) -> None:
        """Give up this process's hold of ticket and slots; ranks that inherited them keep theirs."""
        self._leave()
        for descriptor in self._held.values():
            os.close(descriptor)
        self._held.clear()

    def _leave(self) -> None:
        if self._lock is not None:
            self._ticket.unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = None

    def _head(self) -> Path | None:
        """The oldest ticket whose owner lives; those of the dead are swept away."""
        with self._mutex():
            for ticket in sorted(self._folder.glob("[0-9]*")):
                if ticket == self._ticket:
                    return ticket
                descriptor = _try_lock(ticket)
                if descriptor is None:
                    return ticket
                ticket.unlink()
                os.close(descriptor)
        return None

    @contextlib.contextmanager
    def _mutex(self) -> Iterator[None]:
        descriptor = os.open(self._folder / "mutex", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _try_lock(path: Path) -> int | None:
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
