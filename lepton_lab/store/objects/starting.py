"""Starting the process that carries this machine's runs to their store."""

from __future__ import annotations

import os
import subprocess
from typing import Any

from ...files import home, locked, remote
from ...host import child

CODE = "from lepton_lab.store.objects.carrier import main; main()"
LOCK = ".carrier.lock"  # in the home: held by the carrier

_processes: list[subprocess.Popen[Any]] = []  # kept to be reaped


def begin() -> None:
    """See that this home's runs are carried to its store, where it has one; returns without waiting."""
    collect()
    if remote() is not None and not locked(home() / LOCK):
        null = subprocess.DEVNULL
        _processes.append(child(["-c", CODE], stdin=null, stdout=null, stderr=null, start_new_session=True))


def collect() -> None:
    """Drop those that have ended, so that they don't stay zombies."""
    _processes[:] = [process for process in _processes if process.poll() is None]


def _forget() -> None:
    """In a child that our process forked: they are not ours to wait for."""
    for process in _processes:
        process.returncode = 0
    _processes.clear()


os.register_at_fork(after_in_child=_forget)
