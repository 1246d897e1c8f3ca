"""Commands to a running run: written into its folder by anyone, taken by all ranks at the same step."""

from __future__ import annotations

import json
import os
import secrets
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

from .folders import read_json, write_json

COMMANDS = ("stop", "pause", "resume", "set", "checkpoint")
POLL = 0.02  # seconds between looks for new commands, in a thread of rank 0


def send(folder: Path, command: str, **values: Any) -> None:
    """Leave a command in a run folder; names sort by time."""
    write_json(
        folder / "control" / f"{time.time_ns():020d}-{secrets.token_hex(2)}.json", {"command": command, **values}
    )


def pending(folder: Path, after: str = "") -> list[tuple[str, dict[str, Any]]]:
    """Commands left after one of that name, in order: (name, {"command": ..., values})."""
    names = sorted(name for name in os.listdir(folder / "control") if name[0].isdigit() and name > after)
    return [(name, read_json(folder / "control" / name)) for name in names]


def clear(folder: Path) -> None:
    """Forget all commands, before a run is handed to a new supervisor."""
    for path in (folder / "control").iterdir():
        path.unlink(missing_ok=True)


class Control:
    """
    What a rank does about commands, at the start of each step.

    Rank 0's thread looks for commands. Rank 0 announces them in one file for the step `lead` steps ahead, before it
    enters the collective of the step at hand; another rank can only reach that later step through that collective, so
    all ranks read the same announcement at the same step (`lead` is 1 where the host waits for each collective).

    Parameters
    ----------
    folder
        The run folder.
    rank, world
        This rank and their number.
    lead
        Steps between announcement and effect.
    """

    def __init__(self, folder: Path, rank: int, world: int, lead: int = 1) -> None:
        self._folder = folder
        self._rank, self._world, self._lead = rank, world, lead
        self._file = folder / "control" / "announced.json"
        self._seen: tuple[int, int, int] | None = None
        self._announced: list[dict[str, Any]] = []
        self._taken = 0
        self._new: deque[dict[str, Any]] = deque()  # filled by the thread, emptied by the loop
        if rank == 0:
            threading.Thread(target=self._watch, name="lepton-lab-control", daemon=True).start()

    def due(self, step: int, waiting: bool = False) -> list[dict[str, Any]]:
        """
        Commands that take effect now, the same on every rank.

        Parameters
        ----------
        step
            Optimizer steps done.
        waiting
            All ranks stand still at this step (paused), so that an announcement can take effect at once.
        """
        if self._rank == 0:
            if self._new:
                self._announce(step if waiting or self._world == 1 else step + self._lead)
            elif not self._announced:
                return []
        else:
            self._look()
        due = []
        while self._taken < len(self._announced) and self._announced[self._taken]["at"] <= step:
            due.append(self._announced[self._taken])
            self._taken += 1
        return due

    def _announce(self, at: int) -> None:
        while self._new:
            self._announced.append({**self._new.popleft(), "at": at})
        if self._world > 1:
            write_json(self._file, self._announced)

    def _look(self) -> None:
        try:
            stat = os.stat(self._file)
        except FileNotFoundError:
            return
        stamp = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
        if stamp != self._seen:
            self._seen = stamp
            self._announced = json.loads(self._file.read_text())

    def _watch(self) -> None:
        last = ""
        while True:
            for name, command in pending(self._folder, last):
                last = name
                self._new.append(command)
            time.sleep(POLL)
