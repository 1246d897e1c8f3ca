"""The events in a run's folder: what is new since the last look, all of them, what they mean, and the newest."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..spec import Spec
from .notes import rewound
from .story import Story

PORTION = 2**20
"""Bytes of each file read at once: a long run appears bit by bit, and nobody waits for it to be read whole."""
END = 256 * 1024  # bytes: about a second of a rank, however long the run


class Events:
    """What a run's folder tells by its events."""

    path: Path
    spec: Spec
    facts: dict[str, Any]

    def rows(self, kind: str | None = None) -> list[dict[str, Any]]:
        """All events, or those of a kind, in order of time, without what a resumed run repeated."""
        rows = sorted(rewound(Tail(self.path).read()), key=lambda row: row["t"])
        return [row for row in rows if kind is None or row["kind"] == kind]

    def story(self) -> Story:
        """What the run did up to now."""
        story, tail = Story.of(self.spec), Tail(self.path)
        while [story.add(rows) for rows in tail.portions()]:
            pass
        return story

    def glance(self) -> Story:
        """How the run stands, from its state and the end of each rank's file."""
        story = Story.of(self.spec).add(self.latest(0))
        story.add([row for rank in range(story.world) if (row := self.system(rank))])
        return story.add([{**self.facts, "kind": "state", "rank": 0}])

    def system(self, rank: int) -> dict[str, Any]:
        """The newest system event of a rank, or {} where the end of its file has none."""
        text = self._end(rank, END)
        at = text.rfind(b'{"kind": "system"')
        return next(parse(text[at:].split(b"\n", 1)[0]), {}) if at >= 0 else {}

    def latest(self, rank: int, size: int = END) -> list[dict[str, Any]]:
        """The newest events of a rank, from the last `size` bytes of its file."""
        return list(parse(self._end(rank, size)))

    def _end(self, rank: int, size: int) -> bytes:
        try:
            with (self.path / "events" / f"rank{rank}.jsonl").open("rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - size))
                return file.read()
        except FileNotFoundError:
            return b""


class Tail:
    """New events of a run folder since the last look, up to each file's last newline; later files are found too."""

    def __init__(self, folder: Path) -> None:
        self._events = folder / "events"
        self._offsets: dict[str, int] = {}

    def skip(self) -> None:
        """Pass over what is there by now."""
        for path in self._events.glob("*.jsonl"):
            self._offsets[path.name] = path.stat().st_size

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
