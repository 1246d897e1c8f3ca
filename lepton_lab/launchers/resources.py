"""Where a machine's memory or disk ended: said with figures, and with a little room kept for saying it."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Callable
from pathlib import Path

from ..engine.faults import Fault
from ..errors import LabError
from ..files import FULL, UNITS, met, remedy, sized, why
from ..host import memory_left
from ..spec import Spec
from .remedies import remedied

# What says how much was asked: torch on the CPU, torch on a GPU, NumPy, and a file mapped.
ASKED = re.compile(
    r"tried to allocate ([\d.]+) ?(bytes|[KMGTPE]iB)|Unable to allocate ([\d.]+) ?(bytes|[KMGTPE]iB)|"
    r"unable to mmap (\d+) (bytes)",
    re.IGNORECASE,
)
MEMORY = re.compile(r"not enough memory|can't allocate memory|CUDA out of memory|Cannot allocate memory", re.IGNORECASE)
GPU = re.compile(r"total capacity of ([\d.]+ [KMGT]iB) of which ([\d.]+) ([KMGT]iB) is free")
RESERVE = "reserve"
"""File in a live run's folder whose place is given up when the disk is full, so that this can be written down."""
ROOM = 96 * 1024  # bytes of it for each rank and for the supervisor: an error's report has at most half of that


def explained(fault: Fault, spec: Spec, folder: Path) -> tuple[str, str]:
    """Type and message of an error: with what to do, and how much there was where memory or disk ended."""
    if fault.type in ("MemoryError", "OutOfMemoryError", "_ArrayMemoryError") or MEMORY.search(fault.message):
        return "OutOfMemory", out_of_memory(fault.message, spec)
    if (error := met(fault.message, folder)) is not None:
        return ("FileSizeLimit" if error.errno == errno.EFBIG else "DiskFull"), saved(error, folder)
    return fault.type, remedied(fault.message)


def out_of_memory(message: str, spec: Spec) -> str:
    """How much was asked, how much there is, and what would fit."""
    match = ASKED.search(message)
    number, unit = [group for group in match.groups() if group] if match else ("0", "bytes")
    asked = float(number) * 1024 ** [name.lower() for name in UNITS].index(unit.lower())
    if gpu := GPU.search(message):
        free = float(gpu[2]) * 1024 ** UNITS.index(gpu[3])
        room = f"{sized(free)} of the GPU's {gpu[1]} are free"
    else:
        free, total = memory_left()
        room = f"{sized(free)} of {sized(total)} are free"
    request = f"{sized(asked)} more were asked for, and " if asked else ""
    samples = spec.batch_size // spec.accumulate
    fits = int(samples * free / asked) if asked > free else samples // 2
    if fits >= spec.world:
        remedy = f"take batch_size={fits}, or accumulate={-(-spec.batch_size // fits)}, if that grows with the batch"
    else:
        remedy = "no batch is small enough for it, so make the layer or the tensor smaller"
    return f"out of memory: {request}{room}; {remedy}"


def saved(error: OSError, folder: Path) -> str:
    """Why a run's folder took no more, and that what is in it stays."""
    return f"{why(error, folder)}; {remedy(error)}, then resume: what was saved is safe"


def reserve(folder: Path, world: int) -> None:
    """
    Take some place on the disk of a run's folder for what its ranks are to write when it is full.

    Raises
    ------
    LabError
        If there is no such place.
    """
    path = folder / RESERVE
    try:
        with path.open("wb", buffering=0) as file:
            os.posix_fallocate(file.fileno(), 0, ROOM * (world + 1))  # since a hole takes no place
    except OSError as error:
        path.unlink(missing_ok=True)
        if error.errno in FULL:
            raise LabError(saved(error, folder)) from None
        raise


def pressed(folder: Path, write: Callable[[], object]) -> None:
    """Do what writes to a run's folder; where the disk is full, once more in the place kept for it."""
    try:
        write()
    except OSError as error:
        if error.errno not in FULL:
            raise
        free(folder)
        write()


def free(folder: Path) -> None:
    """Give up the place that was kept."""
    with contextlib.suppress(OSError):
        (folder / RESERVE).unlink()
