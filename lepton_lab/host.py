"""Small facts of processes on this host that launcher, ranks and loaders share."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = Path(__file__).parents[1]
"""Where this lepton_lab lies, installed or not."""
LOOPBACK = ("localhost", "127.0.0.1", "::1")
"""What a machine is called by itself."""
SPINS = {"GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT", "20000")}
"""
Variables for ranks, whose threads wait for each other by spinning.

They take the cores from each other as soon as anything else wants one. A fifteenth of gomp's own patience was as fast
where cores were free, and twice as fast with three busy processes beside it on two cores.
"""
CGROUPS = (
    ("memory.max", "memory.current"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
)  # of version 2 and 1
PR_SET_PDEATHSIG = 1  # linux/prctl.h
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h


ASKED: ContextVar[Callable[[], None]] = ContextVar("ASKED", default=lambda: None)
"""What is called again and again while something is waited for that may take minutes; what it raises ends that."""
ASK = 0.1  # seconds between two calls
BOUND = """
import ctypes, os, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, 9)
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
os.execvp(sys.argv[2], sys.argv[2:])
"""
"""`die_with_parent` of a program that is none of ours, which this becomes."""


def bound(words: Sequence[str], cwd: Path) -> tuple[int, str]:
    """
    Run a program that does not outlive this process: its exit code, and all that it said.

    It, and what it starts, is ended too where ASKED or an interrupt breaks the wait for it off.
    """
    with tempfile.TemporaryFile("w+", errors="replace") as output:
        start = [sys.executable, "-I", "-S", "-c", BOUND, str(os.getpid()), *words]
        process = subprocess.Popen(
            start, cwd=cwd, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    code = process.wait(ASK)
                    break
                ASKED.get()()
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        output.seek(0)
        return code, output.read()


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent dies (Linux; elsewhere nothing)."""
    parent = os.getppid()
    if sys.platform == "linux":
        # SIGKILL, not torch.multiprocessing's SIGINT: Python turns that one into an exception that code may swallow.
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the call
            os.kill(os.getpid(), signal.SIGKILL)


def child(words: list[str], environment: Mapping[str, str] = {}, **options: Any) -> subprocess.Popen[Any]:
    """
    Start a Python that finds the same lepton_lab as this one, and no module of the user's folder in its place.

    `words` follow `python` on its command line, `environment` has variables put over those of this process, and
    `options` are those of `subprocess.Popen`.
    """
    paths = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(PACKAGES)]))
    variables = {**os.environ, "PYTHONPATH": paths, **environment}
    return subprocess.Popen([sys.executable, "-P", *words], env=variables, **options)


@functools.cache
def version(package: str) -> str | None:
    """The version of an installed package; None where it is not installed, as a source tree is not."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


@functools.cache
def machine() -> str:
    """A name that processes have in common that share the cores of one machine."""
    with contextlib.suppress(OSError):
        return f"{socket.gethostname()} {Path('/proc/sys/kernel/random/boot_id').read_text().strip()}"
    return socket.gethostname()


@functools.cache
def processor(fact: str) -> str:
    """What Linux tells of the processor under a heading such as "model name" or "flags"; "" where it tells nothing."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            heading, _, text = line.partition(":")
            if heading.strip() == fact:
                return text.strip()
    return ""


def entitle(name: str) -> None:
    """Give this process a name of at most 15 bytes, by which `ps` and `top` tell it from others of its program."""
    with contextlib.suppress(OSError):
        comm = os.open("/proc/self/comm", os.O_WRONLY)
        os.write(comm, name.encode())
        os.close(comm)


def threads() -> int:
    """Threads of this process now."""
    with contextlib.suppress(OSError):
        return len(os.listdir("/proc/self/task"))
    import threading

    return threading.active_count()


def fork_alone() -> int:
    """
    Fork as `os.fork` does, but run nothing in the child that was registered for it; for a process of one thread only.

    What is registered renews each lock that another thread may have held, such as those of torch's dozens of log
    handlers. Without other threads this mends nothing, yet it copies 0.7 MB of shared pages in each child. (It also
    seeds `random` anew: children of `os.fork`, as ranks are, have that still.)

    Raises
    ------
    OSError
        If there can be no more processes.
    """
    pid = int(ctypes.PyDLL(None, use_errno=True).fork())  # not CDLL, which gives up Python's lock meanwhile
    if pid < 0:
        raise OSError(code := ctypes.get_errno(), os.strerror(code))
    return pid


def keep_memory() -> None:
    """
    Let malloc keep what is freed, where it is glibc's.

    Else the kernel maps and zeroes the large tensors anew each step: a third of the time of a CNN at batch 512.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, 2**30)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def release_memory() -> None:
    """Give back what malloc kept of what was freed, where it is glibc's: as one phase of work ends."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def memory_left() -> tuple[int, int]:
    """Bytes of memory that are free, and those that there are, for this machine or the container that we are in."""
    import psutil

    machine = psutil.virtual_memory()
    free, total = machine.available, machine.total
    for limit, used in CGROUPS:
        with contextlib.suppress(OSError, ValueError):
            most = int(Path("/sys/fs/cgroup", limit).read_text())
            if most < total:
                free, total = min(free, max(0, most - int(Path("/sys/fs/cgroup", used).read_text()))), most
    return free, total


def memory_let() -> int:
    """Bytes that all processes may take here: what there are, or less where a JupyterHub says so in MEM_LIMIT."""
    total = memory_left()[1]
    with contextlib.suppress(KeyError, ValueError, OverflowError):
        told = int(float(os.environ["MEM_LIMIT"]))
        return min(total, told) if told > 0 else total
    return total


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Memory:
    """
    What this process holds, in bytes, told again and again: as `memory` counts, which takes 6 ms beside torch.

    It is counted anew where the resident size has changed by a hundredth or is not known, and each tenth time.
    """

    def __init__(self) -> None:
        self._resident = self._held = self._told = 0

    def __call__(self) -> int:
        """The bytes."""
        resident = _resident()
        if not resident or self._told % 10 == 0 or abs(resident - self._resident) * 100 > resident:
            self._resident, self._held, self._told = resident, memory(), 0
        self._told += 1
        return self._held


def _resident() -> int:
    """Pages that this process has in memory; 0 where that is not known."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0


def memory(pid: int | None = None) -> int:
    """Memory of a process in bytes: its proportional set size (shared pages by their share), else its resident size."""
    try:
        text = Path(f"/proc/{pid or os.getpid()}/smaps_rollup").read_text()
        return next(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Pss:"))
    except (OSError, StopIteration):
        import psutil

        return psutil.Process(pid).memory_info().rss
