"""A run's folder as a log: what changed in it since the last segment, packed, and put into another folder."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ...errors import LabError
from ...files import replacing
from .link import CARRIED, PULLED, STORED

PORTION = 8 * 2**20  # bytes of files in a segment, about
STRETCH = 1024  # segments that are kept as one object, too, for who reads a run from its begin
LARGE = 64 * 2**20  # bytes of files in a stretch that is left in segments
GROWING = ("events", "logs", "facts")  # folders of files that are only appended to
ELSEWHERE = ("control", "checkpoints")  # folders that go other ways
OURS = ("lock", "rendezvous", CARRIED, PULLED, STORED)  # of this machine alone
LAST = "state.json"  # read first and put last: who reads an end has all that came before it
ABOUT = "about.json"

Sent = dict[str, Any]  # by the name of a file: the bytes sent of one that grows, else size and time of the one sent


@dataclass(frozen=True)
class Piece:
    """Bytes of a file from a place on; of a file that is replaced `size` is that of all of it."""

    name: str
    at: int
    data: bytes
    size: int | None = None
    stamp: tuple[int, int] | None = None

    @property
    def sent(self) -> Any:
        """What is known to be sent with it; None while more of the file must follow."""
        end = self.at + len(self.data)
        if self.size is None:
            return end
        return list(self.stamp or ()) if end == self.size else None


def name(number: int) -> str:
    """The name of a segment, in a run's prefix."""
    return f"log/{number:08d}.zip"


def stretch(number: int) -> str:
    """The name of the object that tells what the STRETCH segments from a number on do, in a run's prefix."""
    return f"stretches/{number:08d}.zip"


def pieces(folder: Path, sent: Sent) -> Iterator[Piece]:
    """What changed in a run's folder since what was sent."""
    last = list(_replaced(folder / LAST, LAST, sent))
    for called in files(folder):
        if called == LAST:
            continue
        path = folder / called
        try:
            grows = called.split("/")[0] in GROWING
            yield from _grown(path, called, sent) if grows else _replaced(path, called, sent)
        except FileNotFoundError:  # it went meanwhile
            continue
    yield from last


def files(folder: Path) -> Iterator[str]:
    """Names of the files of a run's folder that go by segments, in order."""
    return (path.relative_to(folder).as_posix() for path in _files(folder, folder))


def gone(folder: Path, sent: Sent) -> list[str]:
    """Files that were sent and are no more."""
    return [called for called in sent if not (folder / called).exists()]


def bundles(changes: Iterator[Piece]) -> Iterator[list[Piece]]:
    """Pieces together, as many as make a segment."""
    bundle: list[Piece] = []
    for piece in changes:
        bundle.append(piece)
        if sum(len(one.data) for one in bundle) >= PORTION:
            yield bundle
            bundle = []
    if bundle:
        yield bundle


def pack(about: dict[str, Any], bundle: list[Piece]) -> bytes:
    """A segment: pieces, and what its writer says beside them."""
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        heads = [[piece.name, piece.at, piece.size] for piece in bundle]
        archive.writestr(ABOUT, json.dumps({**about, "pieces": heads}))
        for number, piece in enumerate(bundle):
            archive.writestr(str(number), piece.data)
    return body.getvalue()


def unpack(body: bytes) -> tuple[dict[str, Any], list[Piece]]:
    """
    What was packed. A segment is data, and nothing in it is run.

    Raises
    ------
    LabError
        If it is damaged, or names a file outside of what a segment may write.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            about = json.loads(archive.read(ABOUT))
            heads = enumerate(about["pieces"])
            found = [Piece(str(called), int(at), archive.read(str(n)), size) for n, (called, at, size) in heads]
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError, EOFError) as error:
        raise LabError(f"it is damaged ({error})") from None
    if foreign := next((one for one in [*(p.name for p in found), *about["gone"]] if not _allowed(one)), None):
        raise LabError(f"it names {foreign!r}, which is no file of a run's own")
    return about, found


def apply(folder: Path, about: dict[str, Any], found: list[Piece]) -> None:
    """Do in a folder what a segment tells. A file that is replaced appears when it is whole."""
    for piece in found:
        path = folder / piece.name
        path.parent.mkdir(parents=True, exist_ok=True)
        if piece.size == len(piece.data):
            with replacing(path) as draft:
                draft.write_bytes(piece.data)
            continue
        part = path if piece.size is None else path.with_name(f".{path.name}.part")
        with os.fdopen(os.open(part, os.O_RDWR | os.O_CREAT, 0o644), "r+b") as file:
            file.truncate(piece.at)
            file.seek(piece.at)
            file.write(piece.data)
        if piece.at + len(piece.data) == piece.size:
            part.replace(path)
    for called in about["gone"]:
        (folder / called).unlink(missing_ok=True)


def _files(place: Path, top: Path) -> Iterator[Path]:
    try:
        entries = sorted(os.scandir(place), key=lambda entry: entry.name)
    except FileNotFoundError:  # it went meanwhile
        return
    for entry in entries:
        path = Path(entry.path)
        if not _allowed(path.relative_to(top).as_posix()):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _files(path, top)
        elif entry.is_file(follow_symlinks=False):
            yield path


def _grown(path: Path, called: str, sent: Sent) -> Iterator[Piece]:
    at = sent.get(called, 0)
    with path.open("rb") as file:
        file.seek(at)
        while data := file.read(PORTION):
            yield Piece(called, at, data)
            at += len(data)


def _replaced(path: Path, called: str, sent: Sent) -> Iterator[Piece]:
    now = stamp(path)
    if now is None or sent.get(called) == list(now):
        return
    with path.open("rb") as file:
        size, at = os.fstat(file.fileno()).st_size, 0
        while at == 0 or at < size:
            data = file.read(PORTION)
            yield Piece(called, at, data, size, now)
            at += len(data)
            if not data:
                return


def stamp(path: Path) -> tuple[int, int] | None:
    """What changes when a file is replaced."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_mtime_ns, stat.st_size


def _allowed(called: str) -> bool:
    """Whether a segment may hold a file or folder of that name."""
    parts = PurePosixPath(called).parts
    inside = bool(parts) and not called.startswith("/") and not any(part.startswith(".") for part in parts)
    return inside and parts[0] not in (*ELSEWHERE, *OURS)
