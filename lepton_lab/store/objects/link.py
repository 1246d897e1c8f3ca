"""How a run's folder stands to a store: carried up from here, or brought down from there; both in a file of its own."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ...errors import LabError
from ...files import read_json, write_json

CARRIED, PULLED = "carried.json", "pulled.json"  # in the folder of a run: what its carrier, and a reader of it, know
STORED = "saved.json"
"""
In the folder of a run of this machine whose nodes share no disk with it: which checkpoints count, and who says that.

While it is `live` the nodes do, by what they put on the store. Once they were brought home it is not, and the carrier
takes them over and removes the file: from then on, as of any run, those in the folder count.
"""
SILENT = 60.0  # seconds without a segment after which the machine of a live run counts as lost
LATE = 5.0  # seconds from which on a view says that it is late


def carried(folder: Path) -> dict[str, Any] | None:
    """What the carrier knows of a run of this machine; None where it was not carried yet."""
    record: dict[str, Any] | None = read_json(folder / CARRIED)
    return record


def pulled(folder: Path) -> dict[str, Any] | None:
    """What is known of a run of another machine; None if it is one of this machine."""
    record: dict[str, Any] | None = read_json(folder / PULLED)
    return record


def address(folder: Path) -> str | None:
    """The store of a run, or None."""
    record = pulled(folder) or carried(folder) or read_json(folder / STORED)
    return record["address"] if record else None


def elsewhere(folder: Path) -> dict[str, str]:
    """Prefixes of the checkpoints that are on a run's store, and need not be here, by name."""
    record = pulled(folder) or (read_json(folder / STORED) if apart(folder) else None) or {"saved": {}}
    saved: dict[str, str] = record["saved"]
    return saved


def apart(folder: Path) -> bool:
    """Whether what checkpoints a run of this machine has is for its nodes to say, which put them on the store."""
    return bool((read_json(folder / STORED) or {}).get("live"))


def require_here(folder: Path, what: str) -> None:
    """Refuse what changes the folder of a run of another machine."""
    if record := pulled(folder):
        raise LabError(f"run {folder.name!r} can be {what} on its own machine only, {record['host']!r}")


def waits(folder: Path) -> bool:
    """Whether a run of this machine has, or may have, something that is not carried up yet."""
    record = carried(folder)
    up = record and (record.get("lost") or (record["alive"] is False and not record.get("trouble")))
    return not up and pulled(folder) is None


def alive(folder: Path) -> bool:
    """Whether another machine has the run now, by its last segment."""
    record = pulled(folder)
    return bool(record and record["alive"] and record["looked"] - record["arrived"] < SILENT)


def note(folder: Path, name: str, record: dict[str, Any]) -> None:
    """Keep a record."""
    write_json(folder / name, record, indent=None)


def late(folder: Path) -> str:
    """How far a copy is behind, and why, in a sentence; "" where it is not."""
    now = time.time()
    if record := pulled(folder):
        if trouble := record.get("trouble"):
            return f"this is how it was {_ago(now - record['looked'])} ago: {trouble}"
        lost, behind = not alive(folder), record["looked"] - record["arrived"]
        if record["alive"] and (lost or behind > LATE):
            more = "; it counts as lost, and run.resume() goes on here" * lost
            return f"its machine ({record['host']}) has sent nothing for {_ago(behind)}{more}"
    elif (record := carried(folder)) and record.get("lost"):
        return f"another machine ({record['lost']}) has gone on with it; lab.attach() shows that one's"
    elif record and (trouble := record.get("trouble")):
        behind = _ago(now - record["since"])
        return f"its store is {behind} behind, and the run goes on meanwhile; what it lacks goes up later: {trouble}"
    return ""


def _ago(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} minutes"
