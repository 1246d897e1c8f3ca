"""What a user's code logged, read back from a run's folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import SpecError, nearest
from .figures import FOLDER, VALUE, Row
from .folder import RunFolder
from .media import SAMPLES

KINDS = ("number", "image", "text", "audio", "histogram")


def logged(folder: RunFolder, kind: str | None) -> list[dict[str, Any]]:
    """See `Run.logged`."""
    if kind not in (None, *KINDS):
        raise SpecError(f"kind={kind!r}: must be one of {', '.join(KINDS)}{nearest(str(kind), KINDS)}")
    story = folder.story()
    items = [
        {"kind": "number", "name": name, "step": int(step), "split": split, "value": value}
        for (name, split), track in story.logged.items()
        for step, value in zip(track.x, track.columns.get(VALUE, ()), strict=True)
    ]
    items += [_medium(folder.path, row) for row in story.own.media if row["media"] != SAMPLES]
    chosen = [item for item in items if kind in (None, item["kind"])]
    return sorted(chosen, key=lambda item: (item["step"], KINDS.index(item["kind"])))


def place(folder: Path, row: Row) -> Path:
    """The file that a media row names, which lies in the run's folder whatever the row says."""
    return folder / FOLDER / Path(row["file"]).name


def content(path: Path, kind: str) -> dict[str, Any]:
    """What is in a file of text or numbers; {} of any other, and of one that is gone."""
    try:
        if kind == "text":
            return {"text": path.read_text(encoding="utf-8")}
        return json.loads(path.read_text()) if kind == "histogram" else {}
    except (OSError, ValueError):
        return {}


def _medium(folder: Path, row: Row) -> dict[str, Any]:
    path = place(folder, row)
    facts = {name: row[name] for name in ("width", "height", "rate", "seconds") if name in row}
    head = {"kind": row["media"], "name": row["name"], "step": row["step"], "split": row["split"]}
    return {**head, "path": path, **facts, **content(path, row["media"])}
