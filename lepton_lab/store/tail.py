"""Events as files tell them: what is new since the last look."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PORTION = 2**20
"""Bytes of each file read at once: a long run appears bit by bit, and nobody waits for it to be read whole."""


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

    def portions(self, most: int = PORTION) -> Iterator[list[dict[str, Any]]]:
        """Events appended since the last call, a file at a time and of each at most about so many bytes."""
        try:
            entries = sorted(os.scandir(self._events), key=lambda entry: entry.name)
        except FileNotFoundError:
            return
        for entry in entries:
            offset = self._offsets.get(entry.name, 0)
            if entry.name.endswith(".jsonl") and entry.stat().st_size > offset:
                with Path(entry.path).open("rb") as file:
                    file.seek(offset)
                    text = file.read(most)
                    if b"\n" not in text:  # a single line longer than `most`
                        text += file.readline()
                if text := text[: text.rfind(b"\n") + 1]:
                    self._offsets[entry.name] = offset + len(text)
                    yield list(parse(text))

    def read(self) -> list[dict[str, Any]]:
        """Events appended since the last call, in each file's order."""
        return [row for rows in self.portions(-1) for row in rows]


def parse(text: bytes) -> Iterator[dict[str, Any]]:
    """Events in whole lines of text; a line that a crash left torn is passed over."""
    for line in text.splitlines():
        with contextlib.suppress(ValueError):
            row = json.loads(line)
            if isinstance(row, dict):
                yield row
