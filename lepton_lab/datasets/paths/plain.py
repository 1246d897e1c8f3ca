"""Text in files: read as UTF-8, with lines that are no longer than a line is."""

from __future__ import annotations

from pathlib import Path

from .files import refused

LONGEST = 16 * 2**20  # bytes of a line; what has none of that length is no file of lines
CHUNK = 2**20


def measure(kind: str, path: str, file: Path) -> None:
    """Refuse a file with a line too long to be one, before any of it is held: a second for 2 GB."""
    line, since = 1, 0  # bytes since the line began
    with file.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            ends = chunk.count(b"\n")
            line, since = line + ends, len(chunk) - chunk.rfind(b"\n") - 1 if ends else since + len(chunk)
            if since > LONGEST:
                raise refused(
                    kind, path, f"line {line:,} of {file.name} is longer than {LONGEST // 2**20} MiB; end each sample "
                    "with a line break"
                )  # fmt: skip


def read(kind: str, path: str, file: Path) -> str:
    """All of a file; SpecError where it can't be read, or is no UTF-8."""
    try:
        return file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise refused(kind, path, f"{file.name} can't be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise refused(
            kind, path, f"{file.name} is not text in UTF-8 (at byte {error.start:,}); save it as UTF-8"
        ) from None
