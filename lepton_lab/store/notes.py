"""What single rows of a run mean: links that begin, deeds that are marked, and what a rewind voids."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

VOIDED = ("train", "eval", "logged", "media")
"""Kinds of rows that a rewind voids."""

Row = Mapping[str, Any]


def begun(note: Row) -> str:
    """The link of a chain that begins with a note, such as "prune"; "" where none does."""
    if "number" not in note or not note["text"].endswith(": begins"):
        return ""
    return note["link"] + (f" {note['round']}" if "round" in note else "")


def deed(row: Row) -> str:
    """What a note marks on the curve, in a few words; "" of one that marks nothing."""
    if "best" in row:
        return f"best {row['best']}"
    if "ended" in row:
        return f"{row['ended']} no better"
    if "hook" in row:
        return f"{row['hook']} is slow"
    if row.get("command") == "extend":
        return f"{row['more']} more epochs"
    values = [f"{name}={row[name]:g}" for name in ("lr", "clip", "weight_decay") if name in row]
    return begun(row) or (", ".join(values) or row["command"] if "command" in row else "")


def rewound(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows without the training steps, evaluations and figures that a rewind voids (see `Story`)."""
    valid: list[dict[str, Any]] = []
    for row in rows:
        if "rewind" in row:
            valid = [before for before in valid if not _voided(before, row)]
        valid.append(row)
    return valid


def _voided(row: Row, note: Row) -> bool:
    return row["kind"] in VOIDED and row["rank"] == note["rank"] and row["step"] > note["rewind"]
