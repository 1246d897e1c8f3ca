"""Why a disk took no more: it is full, or a quota or a limit on the size of files is reached; with figures."""

from __future__ import annotations

import errno
import re
import resource
import shutil
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NAMED = {
    "No space left on device": errno.ENOSPC,
    "Disk quota exceeded": errno.EDQUOT,
    "File too large": errno.EFBIG,
}
# Torch's own words name no reason.
WRITING = re.compile(rf"{'|'.join(NAMED)}|file write failed|failed writing file|unexpected pos \d+ vs \d+")
UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def why(error: OSError, place: Path) -> str:
    """
    Why a file could not be written, as a part of a sentence; `remedy` says what to do about it.

    Parameters
    ----------
    place
        Where it was to be written; it need not be there.
    """
    if error.errno not in FULL:
        return error.strerror or str(error)
    there = next(folder for folder in (place.absolute(), *place.absolute().parents) if folder.is_dir())
    usage = shutil.disk_usage(there)
    if error.errno == errno.EDQUOT:
        return f"the quota on the disk of {str(there)!r} is used up"
    if error.errno == errno.ENOSPC:
        free = f"{sized(usage.free)} of {sized(usage.total)} are free"
        return f"no space left on the disk of {str(there)!r}: {free}"
    if (limit := _limit()) is not None:
        return f"no file may be larger than {sized(limit)}, the limit of `ulimit -f`"
    return f"the disk of {str(there)!r} takes no file of that size"


def remedy(error: OSError) -> str:
    """What to do so that a file can be written, as the beginning of what is asked."""
    if error.errno not in FULL:
        return "put that right"
    return "raise that limit where Jupyter is started" if error.errno == errno.EFBIG else "make room"


def met(message: str, place: Path) -> OSError | None:
    """What ended the writing that an error's message tells of; None if it tells of none."""
    found = WRITING.search(message)
    if not found:
        return None
    limit = _limit()
    limited = limit is not None and shutil.disk_usage(place).free > limit
    return OSError(NAMED.get(found[0], errno.EFBIG if limited else errno.ENOSPC), found[0])


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
