"""The files below a path: their names, sizes and times, and a digest of these by which two runs' data compare."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ...errors import SpecError

RESOURCES = "__MACOSX"  # a folder that macOS puts into archives, with facts of the files and none of their contents
NAMED = 3  # files that a sentence names


@dataclass(frozen=True)
class Files:
    """Files below a folder, or one file, in the order of their names; hidden ones don't count."""

    path: Path
    names: tuple[str, ...]
    """Relative to the folder, with "/" between; of a single file its own name."""
    bytes: int
    digest: str
    """Of names, sizes and times of change, not of contents: 16 hex digits of SHA-256."""

    @property
    def folder(self) -> Path:
        """What names are relative to."""
        return self.path if self.path.is_dir() else self.path.parent

    @property
    def instead(self) -> str:
        """What is there where something else was looked for, as the end of a sentence."""
        return f": it holds {len(self.names):,} other files, such as {self.names[0]}" if self.names else ": it is empty"

    def record(self) -> dict[str, int | str]:
        """What a run's provenance says of them."""
        of = "names, sizes and times of change"
        return {"path": str(self.path), "files": len(self.names), "bytes": self.bytes, "digest": self.digest, "of": of}


def refused(kind: str, path: str, why: str) -> SpecError:
    """The sentence for a path that can't be used as a kind of data."""
    return SpecError(f"dataset={f'{kind}:{path}'!r}: {why}")


def files(kind: str, path: str, folder: bool | None = None) -> Files:
    """
    The files at a path; SpecError where there is none.

    `folder` says whether it has to be one (True), must not (False), or may (None).
    """
    place = Path(path)
    if not place.exists():
        raise refused(kind, path, f"there is no such file or folder{_near(place)}")
    if folder is not None and place.is_dir() != folder:
        what = "a file, and a folder is needed" if folder else "a folder, and a file is needed"
        raise refused(kind, path, f"it is {what}")
    names, total, digest = [], 0, hashlib.sha256()
    try:
        for name, stat in sorted(_walk(place) if place.is_dir() else [(place.name, place.stat())]):
            names.append(name)
            total += stat.st_size
            digest.update(f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode(errors="surrogateescape"))
    except OSError as error:
        raise refused(kind, path, f"it can't be read ({error.strerror}); give it to your user to read") from None
    return Files(place, tuple(names), total, digest.hexdigest()[:16])


def _walk(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Names and facts of all files below a folder, through links, each folder once."""
    seen = set()
    for top, folders, names in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(top)) in seen:  # a link that leads back up
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != RESOURCES)
        for name in (name for name in names if not name.startswith(".")):
            file = Path(top) / name
            if file.is_file():
                yield file.relative_to(folder).as_posix(), file.stat()


def _near(place: Path) -> str:
    """As the end of a sentence: the part of a path that is there, and what lies in it under a name like it."""
    import difflib

    there = next((folder for folder in place.parents if folder.is_dir()), None)
    if there is None:
        return ""
    missing = place.relative_to(there).parts[0]
    try:
        near = difflib.get_close_matches(missing, os.listdir(there), 1)
    except OSError:
        near = []
    return f" ({str(there)!r} is there, and has no {missing!r})" + (f"; did you mean {near[0]!r}?" if near else "")


def some(names: list[str] | tuple[str, ...]) -> str:
    """A few of many names, and how many more there are."""
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more:,} more" if more > 0 else "")
