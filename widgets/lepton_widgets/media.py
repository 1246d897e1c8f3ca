"""Media that a user's code logged, for a page: what there is of a run, and the files as they are needed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lepton_lab.charts.cards import drawn
from lepton_lab.charts.samples import of_file
from lepton_lab.store.figures import FOLDER
from lepton_lab.store.media import MEDIA, SAMPLES
from lepton_lab.store.story import Story

NAMES = 24
"""Most names that a strip shows."""
STEPS = 60
"""Most steps of a name that a slider stops at: of more, some between are left out, never the newest."""
SENT = 2**18
"""Most bytes of a file that is sent before the page asks for it."""
LARGEST = 2**24
"""Most bytes of a file that is sent at all."""

Batch = tuple[str, list[str], list[bytes]]
"""A run's id, names of files in its folder, and what is in them; of samples, the HTML that they are drawn as."""


def listed(story: Story) -> list[dict[str, Any]]:
    """What a run has, as JSON: of each name its kind, and step, split and file of its entries, the newest last."""
    names: dict[str, dict[str, Any]] = {}
    for row in story.own.media:
        each = names.setdefault(row["name"], {"name": row["name"], "kind": row["media"], "entries": []})
        size = {name: row[name] for name in ("width", "height") if name in row}
        each["entries"].append({"step": row["step"], "split": row["split"], "file": row["file"], **size})
    for each in names.values():
        entries = each["entries"]
        every = -(-len(entries) // STEPS)
        each["entries"] = entries[::-1][::every][::-1]
    return list(names.values())[:NAMES]


class Files:
    """The files of some runs, as a page takes them.

    Parameters
    ----------
    runs : sequence of Run
    """

    def __init__(self, runs: Sequence[Any]) -> None:
        self._folders = {run.id: run.folder / FOLDER for run in runs}
        self._sent: dict[tuple[str, str], str] = {}  # run and name -> the file that was sent last

    def newest(self, heads: Iterable[Mapping[str, Any]]) -> Iterator[Batch]:
        """The newest file of each name that was not sent yet, so that a page sees it while the kernel is busy."""
        for head in heads:
            files = []
            for each in head["media"]:
                key, file = (head["id"], each["name"]), each["entries"][-1]["file"]
                if self._sent.get(key) != file:
                    self._sent[key] = file
                    files.append(file)
            names, bodies = self._read(head["id"], files, SENT)
            if names:
                yield head["id"], names, bodies

    def asked(self, run: Any, files: Any) -> Batch:
        """Files that a page asked for; those that are gone or too large are left out."""
        return (str(run), *self._read(str(run), [str(file) for file in files], LARGEST))

    def _read(self, run: str, files: Iterable[str], most: int) -> tuple[list[str], list[bytes]]:
        names, bodies = [], []
        for file in files:
            path = self._folders.get(run, Path("nowhere")) / Path(file).name
            try:
                if path.is_file() and path.stat().st_size <= most:
                    html = path.name.endswith(MEDIA[SAMPLES].ending)
                    bodies.append(drawn(of_file(path)).encode() if html else path.read_bytes())
                    names.append(file)
            except OSError:  # it went with a rewind
                continue
        return names, bodies
