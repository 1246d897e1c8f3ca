"""Files and folders of ours: where they lie, how one is written whole or not at all, and why a disk took no more."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import resource
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .errors import LabError

_WITHIN = Path(__file__).with_name("notebooks")
NOTEBOOKS = _WITHIN if _WITHIN.is_dir() else _WITHIN.parents[1] / "notebooks"
"""Folder of the lessons and of the report's notebook: within an installed wheel, or a checkout's."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # what a disk that takes no more says
NAMED = {os.strerror(code): code for code in FULL}  # "No space left on device", ...
# Torch's own words name no reason.
WRITING = re.compile(rf"{'|'.join(NAMED)}|file write failed|failed writing file|unexpected pos \d+ vs \d+")
UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def home() -> Path:
    """Folder of runs and data: LEPTON_LAB_HOME, else the platform's place; of a store, the one for it on this disk."""
    if address := remote():
        return cache(address)
    named = os.environ.get("LEPTON_LAB_HOME")
    return absolute(named, "LEPTON_LAB_HOME") if named else _place()


def remote() -> str | None:
    """The address of the store that LEPTON_LAB_HOME names, such as s3://bucket/prefix; None where it is a folder."""
    named = os.environ.get("LEPTON_LAB_HOME", "")
    scheme, mark, place = named.partition("://")
    if mark and not (scheme and place.strip("/")):  # which fsspec would take for a folder of that name
        raise LabError(
            f"LEPTON_LAB_HOME={named!r}: names no place in a store; give it in full, as in s3://bucket/prefix"
        )
    return named.rstrip("/") if mark else None


def cache(address: str) -> Path:
    """Where runs of a store lie on this machine's disk while they are at work or watched."""
    readable = re.sub(r"[^\w.]+", "-", address)[:60]
    return _place() / "stores" / f"{readable}-{hashlib.sha256(address.encode()).hexdigest()[:8]}"


def _place() -> Path:
    """The platform's place for user data."""
    import platformdirs

    absolute("~", "HOME")
    return Path(platformdirs.user_data_dir("lepton-lab", appauthor=False)).absolute()


def data_root() -> Path:
    """Folder of data sets: LEPTON_LAB_DATA, else `data` in `home()`, or where runs would lie without a store."""
    named = os.environ.get("LEPTON_LAB_DATA")
    return absolute(named, "LEPTON_LAB_DATA") if named else (_place() if remote() else home()) / "data"


def absolute(path: str | os.PathLike[str], name: str) -> Path:
    """A path in full, where `~` may stand for a home folder; without such a folder a LabError names what it is of."""
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError:
        user = str(path).split("/")[0]
        whose = "this account has no home folder" if user == "~" else f"no user's home folder is {user!r}"
        remedy = "set HOME, or LEPTON_LAB_HOME" if user == "~" else "give the folder in full"
        raise LabError(f"{name}={str(path)!r}: {whose}; {remedy}") from None


def write_json(path: Path, value: Any, indent: int | None = 1) -> None:
    """Replace a JSON file in one step."""
    write_text(path, json.dumps(value, indent=indent) + "\n")


def write_text(path: Path, text: str) -> None:
    """Replace a file in one step: a reader sees the old or the new text, never a part."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, body: bytes) -> None:
    """As `write_text`."""
    with replacing(path) as draft:
        draft.write_bytes(body)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """
    A draft beside a file, for the block to write, which then takes the file's place in one step.

    Whatever goes wrong in the block, a full disk or an interrupt, leaves the older file whole and no draft. A path
    without a name, such as "/", is an IsADirectoryError.
    """
    if not path.name:  # "." or "/"
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    draft = path.with_name(f".{path.name[:200]}.{os.getpid()}.{secrets.token_hex(2)}")
    try:
        yield draft
        draft.replace(path)
    finally:
        with contextlib.suppress(OSError):  # of the first error, which is the one to tell
            draft.unlink(missing_ok=True)


def locked(path: Path) -> bool:
    """Whether a process holds the lock on a file; not where there is no such file, or the file system has no locks."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return False
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            return isinstance(error, BlockingIOError)
    return False


def read_json(path: Path) -> Any:
    """The value in a JSON file, or None if there is no such file, or a crash of the machine left it torn."""
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None


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
