"""The events in a run's folder: all of them, what they mean, and the newest, which are cheap to read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .story import Story, rewound
from .tail import Tail, parse

if TYPE_CHECKING:
    from ..spec import Spec

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
        """The newest events of a rank, from the last `size` bytes."""
        return list(parse(self._end(rank, size)))

    def _end(self, rank: int, size: int) -> bytes:
        try:
            with (self.path / "events" / f"rank{rank}.jsonl").open("rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - size))
                return file.read()
        except FileNotFoundError:
            return b""
