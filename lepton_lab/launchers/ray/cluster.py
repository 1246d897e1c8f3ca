"""The connection of a supervisor's process to a Ray cluster; or a cluster of its own, on this machine's loopback."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...errors import LabError, SpecError
from ...host import LOOPBACK, PACKAGES, child

GUARD = """
import contextlib, os, shutil, signal, sys
sys.stdin.read()
with contextlib.suppress(ProcessLookupError):
    os.killpg(int(sys.argv[1]), signal.SIGKILL)
shutil.rmtree(sys.argv[2], ignore_errors=True)
"""
"""Waits for our end. Ray's agents would live on for minutes, since they want to tell a server that is gone, too."""
LOCAL = "local"  # a cluster of its own, as RAY_ADDRESS may say, too
PATIENCE = 3.0  # seconds for an answer
STORE = 80 * 2**20  # bytes of Ray's object store, through which nothing goes; it takes no less than 75 MiB
QUIET = {"include_dashboard": False, "object_store_memory": STORE}


@contextlib.contextmanager
def joined(address: str, cpus: int, gpus: int, name: str) -> Iterator[None]:
    """
    While this process is a driver of the cluster at an address, or of one of its own if that is LOCAL.

    Parameters
    ----------
    cpus, gpus
        What a cluster of its own has.
    name
        Of Ray's namespace.

    Raises
    ------
    LabError
        If it can't be joined.
    """
    if address != LOCAL:
        answers(address)  # or Ray would look for one that has gone meanwhile for long, deaf to a stop
    with contextlib.ExitStack() as stack:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        options: dict[str, Any] = {"address": address}
        if address == LOCAL:
            options |= QUIET | {"num_cpus": cpus, "num_gpus": gpus, "_temp_dir": stack.enter_context(_folder())}
            _alone()
        else:
            _credentials(address)
        os.chdir(PACKAGES)  # which is shipped as where workers find modules; a user's folder could hide some
        import ray

        stack.callback(ray.shutdown)
        try:
            with _signals():
                ray.init(namespace=name, log_to_driver=False, configure_logging=False, **options)
        except Exception as error:
            raise LabError(_refused(address, error)) from error
        yield


def _alone() -> None:
    """Set what a cluster of its own is to have: the loopback as its address, and a token that nobody else knows."""
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # Ray's word for: nodes on the loopback, and one only
    os.environ["AUTOSCALER_METRIC_PORT"] = "0"  # any
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "120")  # 30 are too few on a machine that is busy
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def _credentials(address: str) -> None:
    """Take the user's token where there is one, and the address as the cluster knows it."""
    token = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    if "RAY_AUTH_TOKEN" in os.environ or token.is_file():
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    host, _, port = address.rpartition(":")
    if host in LOOPBACK and not _listens(_outward(), int(port)):
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # or Ray takes the loopback for the address outward


def _outward() -> str:
    """This machine's address on the way to others."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("10.255.255.255", 9))
        return str(probe.getsockname()[0])
    return "127.0.0.1"


def _listens(host: str, port: int) -> bool:
    with contextlib.suppress(OSError):
        socket.create_connection((host, port), 1.0).close()
        return True
    return False


def answers(where: str) -> None:
    """Refuse an address at which nothing answers."""
    host, _, port = where.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), PATIENCE).close()
    except (socket.gaierror, UnicodeError):
        raise SpecError(f"address={where!r}: no machine is known by the name {host!r} here") from None
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or "it does not answer"
        raise SpecError(
            f"address={where!r}: no Ray cluster answers there ({reason}); start one with `ray start --head "
            f"--port={port}`, or take lab.Ray() for one of the run's own on this machine"
        ) from None


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    """Keep what this process does at a SIGTERM, for which Ray has its own idea."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _folder() -> Iterator[str]:
    """A folder for Ray's logs, and sockets, whose paths must be short; it goes even if this process is killed."""
    path = tempfile.mkdtemp(prefix="lepton-ray-")
    guard = child(["-c", GUARD, str(os.getpgrp()), path], stdin=subprocess.PIPE, start_new_session=True)
    try:
        yield path
    finally:
        guard.kill()
        guard.communicate()
        shutil.rmtree(path, ignore_errors=True)


def _refused(address: str, error: BaseException) -> str:
    """Why a cluster can't be joined, as a sentence with what may help."""
    words = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    if address == LOCAL:
        return f"no Ray cluster can be started on this machine: {words}"
    return (
        f"the Ray cluster at {address} can't be joined: {words}; see that this machine is one of its nodes, and "
        "RAY_AUTH_TOKEN its token, which `ray get-auth-token` says on the head"
    )
