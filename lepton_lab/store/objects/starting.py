"""Starting the process that carries this machine's runs to their store."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
from typing import Any

from ...files import home, remote
from ...host import child

CODE = "from lepton_lab.store.objects.carrier import main; main()"
LOCK = ".carrier.lock"  # in the home: held by the carrier, which is handed its open file

_processes: list[subprocess.Popen[Any]] = []  # kept to be reaped


def begin() -> None:
    """See that this home's runs are carried to its store, where it has one; returns without waiting."""
    collect()
    if remote() is None:
        return
    root, null = home(), subprocess.DEVNULL
    root.mkdir(parents=True, exist_ok=True)
    with (root / LOCK).open("w") as lock:  # taken for it here: a loop of launches starts one
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            words = ["-c", CODE, str(lock.fileno())]
            streams: dict[str, Any] = {"stdin": null, "stdout": null, "stderr": null, "pass_fds": [lock.fileno()]}
            _processes.append(child(words, **streams, start_new_session=True))


def collect() -> None:
    """Drop those that have ended, so that they don't stay zombies."""
    _processes[:] = [process for process in _processes if process.poll() is None]


def _forget() -> None:
    """In a child that our process forked: they are not ours to wait for."""
    for process in _processes:
        process.returncode = 0
    _processes.clear()


os.register_at_fork(after_in_child=_forget)
