"""Archives, read member by member without installing or executing anything: zip and wheel, tar, Debian's packages."""

from __future__ import annotations

import contextlib
import hashlib
import io
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from .sources import Archive

AR = b"!<arch>\n"  # how a Debian package begins: it is an ar archive of three files
AR_HEADER = 60
BLOCK = 1 << 20


def digest(contents: Path | bytes, kind: str = "sha256") -> str:
    """The SHA-256, or MD5, of a file, or of what was one."""
    with io.BytesIO(contents) if isinstance(contents, bytes) else contents.open("rb") as handle:
        return hashlib.file_digest(handle, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest()


def unlike(contents: Path | bytes, published: str) -> str:
    """Why a file is not the published one, by its MD5 or SHA-256; or nothing."""
    kind, name = ("md5", "MD5") if len(published) == 32 else ("sha256", "SHA-256")
    actual = digest(contents, kind)
    return "" if actual == published else f"has {name} {actual[:16]}..., not the published {published[:16]}..."


def tree(folder: Path) -> str:
    """SHA-256 of all files below a folder: of lines with the name and the SHA-256 of each, in order of names."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    lines = (f"{name} {digest(folder / name)}\n" for name in names)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def unpack(path: Path, archive: Archive, folder: Path) -> None:
    """
    The members of an archive, written below a folder under the names that the data set has for them.

    Raises
    ------
    OSError
        If the archive, or a folder in it, is not the published one, or a member is missing.
    zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, lzma.LZMAError
        If it is damaged.
    """
    if archive.digest and (wrong := unlike(path, archive.digest)):
        raise OSError(f"{path.name} {wrong}")
    missing = dict(archive.members)
    for file in [file for file, member in missing.items() if not member]:
        shutil.copyfile(path, _made(folder / file))
        del missing[file]
    with contextlib.closing(_entries(path)) as entries:
        for name, write in entries if missing else ():
            for file, member in archive.members.items():
                if (place := _place(name, file, member)) and (place == file or place.endswith(archive.endings or "")):
                    missing.pop(file, None)
                    write(_made(folder / place))
    if missing:
        raise OSError(f"{path.name} holds no {', '.join(missing.values())}")
    for file, published in archive.trees.items():
        if (actual := tree(folder / file)) != published:
            raise OSError(f"{path.name} holds other {file} (SHA-256 {actual[:16]}...) than the published")


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _place(name: str, file: str, member: str) -> str:
    """Under which name an entry of an archive is written; "" where it is none of the member's."""
    whole = f"/{name.removeprefix('./')}"
    if not member or ".." in PurePosixPath(name).parts:
        return ""
    if not member.endswith("/"):
        return file if whole.endswith(f"/{member}") else ""
    _, found, rest = whole.partition(f"/{member}")
    return f"{file}/{rest}" if found else ""


Write = Callable[[Path], None]


def _entries(path: Path) -> Generator[tuple[str, Write], None, None]:
    """Each file of an archive: its name, and what writes it to a path."""
    if path.suffix in (".zip", ".whl"):
        return _zipped(path)
    return _tarred(path)


def _zipped(path: Path) -> Generator[tuple[str, Write], None, None]:
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if not entry.is_dir():
                yield entry.filename, partial(_copy, archive.open(entry))


def _tarred(path: Path) -> Generator[tuple[str, Write], None, None]:
    with path.open("rb") as handle:
        body = io.BufferedReader(_data(handle), BLOCK) if path.suffix == ".deb" else handle
        with tarfile.open(fileobj=body, mode="r|*") as archive:
            for entry in archive:
                if entry.isfile() and (stream := archive.extractfile(entry)):
                    yield entry.name, partial(_copy, stream)


def _copy(stream: IO[bytes], target: Path) -> None:
    with stream, target.open("wb") as handle:
        shutil.copyfileobj(stream, handle, BLOCK)


class _data(io.RawIOBase):
    """The file data.tar.* within a Debian package."""

    def __init__(self, handle: IO[bytes]) -> None:
        if handle.read(len(AR)) != AR:
            raise tarfile.TarError("it is no Debian package")
        self.handle, self.left = handle, 0
        while header := handle.read(AR_HEADER):
            size = int(header[48:58] or 0)
            if header.startswith(b"data.tar"):
                self.left = size
                return
            handle.seek(size + size % 2, io.SEEK_CUR)
        raise tarfile.TarError("it is a Debian package without data")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        part = self.handle.read(min(len(buffer), self.left))
        buffer[: len(part)] = part
        self.left -= len(part)
        return len(part)
