"""The folder that a grid's pages go to: whether it can be, whose it is for now, and what earlier calls did there."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...errors import LabError
from ...files import read_json, why, write_json

RECORDS = "runs.json"
FORMAT = 1


def writable(out: Path) -> Path:
    """The folder, made where it is missing; refused before anything starts."""
    if out.exists() and not out.is_dir():
        raise LabError(f"out={str(out)!r}: is a file; a grid needs a folder for its pages")
    try:
        out.mkdir(parents=True, exist_ok=True)
        (draft := out / f".{os.getpid()}").touch()
        draft.unlink()
    except OSError as error:
        raise LabError(f"out={str(out)!r}: can't be written ({why(error, out)}); name another folder") from None
    return out


def read_records(out: Path) -> dict[str, dict[str, Any]]:
    """Of each spec, by its digest, the run that does it and what was rendered of it; as earlier calls noted it."""
    path = out / RECORDS
    records = read_json(path)
    if path.exists() and not (isinstance(records, dict) and records.get("format") == FORMAT):
        raise LabError(f"{str(path)!r} is not of this version's `lepton-lab report --grid`: name another folder")
    return records["runs"] if records else {}


def write_records(out: Path, records: dict[str, dict[str, Any]]) -> None:
    """Note them for the next call."""
    write_json(out / RECORDS, {"format": FORMAT, "runs": records})


@contextlib.contextmanager
def claimed(out: Path) -> Iterator[None]:
    """The folder for ourselves: two calls at once, as an overlong night makes them, would do everything twice."""
    with (out / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LabError(f"out={str(out)!r}: another call on a grid is at work there; wait for its end") from None
        yield
