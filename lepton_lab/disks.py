"""Why a disk took no more: it is full, or a quota or a limit on the size of files is reached; with figures."""

from __future__ import annotations

import errno
import os
import re
import resource
import shutil
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NAMED = {os.strerror(code): code for code in FULL}  # "No space left on device", ...
# Torch's own words name no reason.
WRITING = re.compile(rf"{'|'.join(NAMED)}|file write failed|failed writing file|unexpected pos \d+ vs \d+")
UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def why(error: OSError, place: Path) -> str:
    """Why a file could not be written at a place, which need not be there; a part of a sentence, as is `remedy`."""
    if error.errno not in FULL:
        return error.strerror or str(error)
    folder = next(folder for folder in (place.absolute(), *place.absolute().parents) if folder.is_dir())
    disk = f"the disk of {str(folder)!r}"
    if error.errno == errno.EDQUOT:
        return f"the quota on {disk} is used up"
    if error.errno == errno.ENOSPC:
        usage = shutil.disk_usage(folder)
        return f"no space left on {disk}: {sized(usage.free)} of {sized(usage.total)} are free"
    if (limit := _limit()) is not None:
        return f"no file may be larger than {sized(limit)}, the limit of `ulimit -f`"
    return f"{disk} takes no file of that size"


def remedy(error: OSError) -> str:
    """What to do so that a file can be written, as the beginning of what is asked."""
    if error.errno not in FULL:
        return "put that right"
    return "raise that limit where Jupyter is started" if error.errno == errno.EFBIG else "make room"


def met(message: str, place: Path) -> OSError | None:
    """What ended the writing that an error's message tells of; None if it tells of none."""
    match = WRITING.search(message)
    if not match:
        return None
    limit = _limit()
    limited = limit is not None and shutil.disk_usage(place).free > limit
    return OSError(NAMED.get(match[0], errno.EFBIG if limited else errno.ENOSPC), match[0])


def sized(count: float) -> str:
    """A number of bytes for people."""
    power = 0
    while count >= 1024 and power < len(UNITS) - 1:
        count, power = count / 1024, power + 1
    return f"{count:.0f} {UNITS[power]}" if power == 0 else f"{count:.3g} {UNITS[power]}"


def _limit() -> int | None:
    """Bytes that a file of this process may have; None where nobody set a limit."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    return None if limit == resource.RLIM_INFINITY else limit
