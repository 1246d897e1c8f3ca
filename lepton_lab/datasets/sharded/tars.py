"""
Tars in WebDataset's format: files of one name are a sample, each a part of it by its extension.

Formats: POSIX.1-1988 ustar and pax, GNU's long names; https://github.com/webdataset/webdataset for the names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

UNIT = 512  # bytes of a header, and a multiple of what follows it
CHUNK = 1 << 20  # bytes that are read at a time to find what a tar holds
FILES = b"0\0"  # types of plain files
GZIP = b"\x1f\x8b"


class Damaged(Exception):
    """Bytes that are no whole tar; the message says why."""


class Member(NamedTuple):
    """A file in a tar."""

    key: str
    """Its path up to the first dot of its name, which the parts of a sample share."""
    part: str
    """Its extension: all after that dot, in small letters."""
    start: int
    """Where its first header begins."""
    begin: int
    size: int
    end: int
    """Where the next header begins."""


Sample = tuple[str, dict[str, tuple[int, int]]]
"""Key, and by part where its bytes begin and how many they are."""


def members(get: Callable[[int, int], bytes | bytearray], at: int, end: int, closed: bool = True) -> Iterator[Member]:
    """
    The files from a header on.

    Parameters
    ----------
    get
        Bytes by place and count.
    at, end
        The first header, and where the bytes end.
    closed
        Whether the empty header is to come that ends a tar.

    Raises
    ------
    Damaged
        If they are no tar, or cut short.
    """
    start, told, last = at, dict[str, str](), ""
    while at + UNIT <= end:
        head = get(at, UNIT)
        if not any(head[:8]) and not any(head):
            return
        if head[257:262] != b"ustar":
            raise Damaged("it is no tar")
        size = _number(head[124:136])
        begin, kind = at + UNIT, head[156:157]
        file = kind in FILES
        if file:
            size, last = _told(told.get("size"), size), told.get("path") or _name(head)
        at = begin + padded(size)
        if begin + size > end:
            raise Damaged(f"it is cut short in {last or 'its first file'}")
        if file:
            if (parted := _parted(last)) is not None:
                yield Member(*parted, start, begin, size, at)
            start, told = at, {}
        elif kind == b"x":
            told |= _pax(bytes(get(begin, size)))
        elif kind == b"L":
            told["path"] = bytes(get(begin, size)).rstrip(b"\0").decode(errors="replace")
        elif kind != b"g":  # a folder or a link
            start, told = at, {}
    if closed:
        raise Damaged(f"it is cut short after {last or 'its beginning'}")


def samples(members: Iterator[Member]) -> Iterator[list[Member]]:
    """Neighbouring members of one key."""
    together: list[Member] = []
    for member in members:
        if together and member.key != together[0].key:
            yield together
            together = []
        together.append(member)
    if together:
        yield together


def parts(body: bytearray) -> list[Sample]:
    """The samples of a block."""
    found = samples(members(lambda at, count: body[at : at + count], 0, len(body), closed=False))
    return [(group[0].key, {member.part: (member.begin, member.size) for member in group}) for group in found]


class Scan:
    """
    Bytes of a file of which little is read: by chunks, forwards.

    Parameters
    ----------
    read
        Bytes from a place up to another one.
    """

    def __init__(self, read: Callable[[int, int], bytearray]) -> None:
        self._read, self._at, self._chunk = read, 0, bytearray()

    def get(self, at: int, count: int) -> bytearray:
        """So many bytes from a place on, as far as there are any."""
        offset = at - self._at
        if offset < 0 or offset + count > len(self._chunk):
            self._at, self._chunk, offset = at, self._read(at, at + max(count, CHUNK)), 0
        return self._chunk[offset : offset + count]


def padded(size: int) -> int:
    """Bytes that a file of a size takes in a tar."""
    return -(-size // UNIT) * UNIT


def _number(field: bytes | bytearray) -> int:
    """A size: octal digits, or GNU's binary form."""
    if field[0] & 0x80:
        return int.from_bytes(field[1:], "big")
    try:
        return int(field.rstrip(b"\0 ") or b"0", 8)
    except ValueError:
        raise Damaged("it is no tar") from None


def _name(head: bytes | bytearray) -> str:
    name = head[:100].split(b"\0", 1)[0].decode(errors="replace")
    prefix = head[345:500].split(b"\0", 1)[0].decode(errors="replace") if head[263:265] == b"00" else ""
    return f"{prefix}/{name}" if prefix else name


def _pax(body: bytes) -> dict[str, str]:
    """The records of an extended header, `LENGTH KEY=VALUE` a line."""
    found = {}
    while body:
        length, _, rest = body.partition(b" ")
        end = _told(length.decode(errors="replace"), 0)
        key, mark, value = rest[: max(end - len(length) - 1, 0)].partition(b"=")
        if not mark:
            raise Damaged("one of its headers is damaged")
        found[key.decode(errors="replace")] = value.rstrip(b"\n").decode(errors="replace")
        body = body[end:]
    return found


def _told(text: str | None, otherwise: int) -> int:
    """A size in digits."""
    if text is None:
        return otherwise
    if not (text.isascii() and text.isdigit()):
        raise Damaged("one of its headers is damaged")
    return int(text)


def _parted(name: str) -> tuple[str, str] | None:
    """Key and part of a file's path; None of one that belongs to no sample."""
    folder, mark, file = name.rpartition("/")
    stem, dot, part = file.partition(".")
    return (f"{folder}{mark}{stem}", part.lower()) if stem and dot and not file.startswith("__") else None
