"""Events as files tell them: what is new since the last look, without what a resumed run did again."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class Tail:
    """
    New events of a run folder since the last look, up to each file's last newline.

    Parameters
    ----------
    folder
        A run folder; files of ranks that appear later are found.
    """

    def __init__(self, folder: Path) -> None:
        self._events = folder / "events"
        self._offsets: dict[str, int] = {}

    def read(self, most: int = -1) -> list[dict[str, Any]]:
        """Events appended since the last call, in each file's order; of `most` bytes a file at a time, if given."""
        rows: list[dict[str, Any]] = []
        try:
            entries = sorted(os.scandir(self._events), key=lambda entry: entry.name)
        except FileNotFoundError:
            return rows
        for entry in entries:
            offset = self._offsets.get(entry.name, 0)
            if entry.name.endswith(".jsonl") and entry.stat().st_size > offset:
                with Path(entry.path).open("rb") as file:
                    file.seek(offset)
                    text = file.read(most)
                    if b"\n" not in text:  # a single line longer than `most`
                        text += file.readline()
                text = text[: text.rfind(b"\n") + 1]
                self._offsets[entry.name] = offset + len(text)
                rows.extend(parse(text))
        return rows


def parse(text: bytes) -> Iterator[dict[str, Any]]:
    """Events in whole lines of text; a line that a crash left torn is passed over."""
    for line in text.splitlines():
        with contextlib.suppress(ValueError):
            row = json.loads(line)
            if isinstance(row, dict):
                yield row


def rewound(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """
    Rows without what a resumed run did again.

    A run that resumes at step S repeats the steps that it had done after its last checkpoint; the note
    `rewind: S` of a rank voids that rank's earlier train and eval rows beyond S.
    """
    kept: list[dict[str, Any]] = []
    for row in rows:
        if "rewind" in row:
            kept = [r for r in kept if not _voided(r, row)]
        kept.append(row)
    return kept


def _voided(row: dict[str, Any], note: dict[str, Any]) -> bool:
    return row["kind"] in ("train", "eval") and row["rank"] == note["rank"] and row["step"] > note["rewind"]
