"""What went wrong in a process that loads data, in its own words."""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
import traceback
from dataclasses import dataclass

from ..datasets.streams import NOTED
from ..errors import LabError
from . import reading

ENDED = re.compile(r"DataLoader worker \(pid.*\) (is killed by signal|exited unexpectedly)")
STACK = re.compile(r'File "(.+)", line (\d+) in')  # as faulthandler writes it, the innermost first
ANSWER = 1.0  # seconds that a loading process that stands still has to say where


@dataclass(frozen=True)
class Fault:
    """An exception as plain values, which any process can read."""

    type: str
    message: str
    frames: tuple[tuple[str, int], ...]
    """File and line of each call, the innermost last."""
    text: str
    """The traceback as Python prints it."""

    @classmethod
    def of(cls, error: BaseException) -> Fault:
        """What an exception says; that of a loading process says what was said there."""
        if isinstance(error, LoadError):
            return error.fault
        message = _words(error)
        if ENDED.match(message):  # torch raises it at the signal, wherever the rank is at that moment
            return ended(error)
        frames = tuple((frame.filename, frame.lineno or 0) for frame in traceback.extract_tb(error.__traceback__))
        return cls(type(error).__name__, message, frames, printed(error))


class LoadError(LabError):
    """What went wrong in a loading process."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(f"{fault.type}: {fault.message}")
        self.fault = fault


def late(error: Exception) -> bool:
    """Whether it says that loading processes gave nothing in time."""
    return str(error).startswith("DataLoader timed out")


def lost(error: Exception, notes: int, timeout: float) -> Fault:
    """What is known of a loading process that ended, or gave nothing in time."""
    if not late(error):
        # Its sockets close before it has ended.
        deadline = time.monotonic() + ANSWER * isinstance(error, (OSError, EOFError))
        while not (gone := _any_ended(notes)) and time.monotonic() < deadline:
            time.sleep(0.02)
        return ended(error) if gone else Fault.of(error)
    message = f"the data gave no batch for {timeout:g} s (timeout={timeout:g})"
    return Fault("Stuck", message, _stands(notes), printed(error))


def ended(error: BaseException) -> Fault:
    """What is known of a loading process that ended."""
    cause = "out of memory, killed, or a crash in native code"
    if "Bus error" in str(error):
        free = shutil.disk_usage("/dev/shm").free
        cause = f"/dev/shm, through which batches pass, is full: {free // 2**20:,} MiB are free"
    return Fault("LoadError", f"a process that loads the data ended unasked ({cause})", (), printed(error))


def printed(error: BaseException) -> str:
    """The traceback as Python prints it."""
    return "".join(traceback.format_exception(error))


def _words(error: BaseException) -> str:
    """What an exception says, also where its own `__str__` fails, and what was being read."""
    try:
        words = str(error)
    except Exception as own:  # a user's class
        words = f"its __str__ raised {type(own).__name__}"
    notes = [note for note in getattr(error, "__notes__", ()) if note.startswith(NOTED)]
    return f"{words} ({notes[0]})" if notes else words


def _any_ended(notes: int) -> bool:
    """Whether a loading process is no more."""
    for pid in _processes(notes):
        try:
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                return True
        except ChildProcessError:  # who began it has taken note
            return True
    return False


def _processes(notes: int) -> list[int]:
    return [int(line) for line in os.pread(notes, 2**16, 0).split(b"\n") if line.isdigit()]


def _stands(notes: int) -> tuple[tuple[str, int], ...]:
    """Where a loading process stands that has a sample at hand, the innermost call last; () if none can tell."""
    for pid in _processes(notes):
        begin = os.fstat(notes).st_size
        try:
            os.kill(pid, signal.SIGUSR1)
        except ProcessLookupError:
            continue
        deadline = time.monotonic() + ANSWER
        frames: list[tuple[str, int]] = []
        while time.monotonic() < deadline and not frames:
            time.sleep(0.05)
            stack = os.pread(notes, 2**16, begin).decode(errors="replace")
            frames = [(file, int(line)) for file, line in STACK.findall(stack)]
        if any(file == reading.__file__ for file, _ in frames):
            return tuple(reversed(frames))
    return ()
