"""Starting the process that carries this machine's runs to their store."""

from __future__ import annotations

import subprocess
from typing import Any

from ...files import home, locked, remote
from ...host import child

CODE = "from lepton_lab.store.objects.carrier import main; main()"
LOCK = ".carrier.lock"  # in the home: held by the carrier

_processes: list[subprocess.Popen[Any]] = []  # kept to be reaped


def begin() -> None:
    """See that this home's runs are carried to its store, where it has one; returns without waiting."""
    _processes[:] = [process for process in _processes if process.poll() is None]
    if remote() is not None and not locked(home() / LOCK):
        null = subprocess.DEVNULL
        _processes.append(child(["-c", CODE], stdin=null, stdout=null, stderr=null, start_new_session=True))
