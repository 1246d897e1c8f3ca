"""Commands to a running run: written into its folder by anyone, taken by all ranks at the same step."""

from __future__ import annotations

import contextlib
import json
import math
import os
import secrets
import sys
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

from ..errors import LabError
from ..files import remedy, why, write_json
from .board import Board
from .objects import link
from .objects.bucket import Bucket, refusal

POLL = 0.05  # seconds between looks for new commands, in a thread of rank 0
COMMANDS = ("stop", "pause", "resume", "checkpoint", "set")
STEERED = ("lr", "clip", "weight_decay")  # what `set` can change in a running job, and a resume in an ended one
ANNOUNCED = "announced.json"
ASKED = "asked"  # on the board: what ranks other than the first ask for
KEPT = 50  # announcements that stay in the file


def send(folder: Path, command: str, **values: Any) -> None:
    """
    Leave a command in a run folder; names sort by time and end in the command.

    Raises
    ------
    LabError
        If it can't be written there.
    """
    place = folder / "control"
    name = f"{time.time_ns():020d}-{secrets.token_hex(2)}-{command}.json"
    if (record := link.pulled(folder)) is not None:
        _send_there(folder, record["address"], name, {"command": command, **values})
        return
    try:
        write_json(place / name, {"command": command, **values})
    except OSError as error:
        reason = f"{str(place)!r} can't be written ({why(error, place)})"
        raise LabError(
            f"run {folder.name!r} can't be told to {command}: {reason}; {remedy(error)}, then do it again"
        ) from None


def _send_there(folder: Path, address: str, name: str, message: dict[str, Any]) -> None:
    """Leave a command on the store, from where the carrier of the run's machine takes it."""
    try:
        Bucket(address).put(f"runs/{folder.name}/control/{name}", json.dumps(message).encode())
    except Exception as error:  # of any library that fsspec builds on
        reason = refusal(address, error)
        raise LabError(f"run {folder.name!r} can't be told to {message['command']}: {reason}") from None


def stopping(folder: Path) -> bool:
    """Whether a stop was left that has not ended the run yet."""
    return any(name.endswith("-stop.json") for name in os.listdir(folder / "control"))


def called_off(folder: Path) -> bool:
    """Whether nothing but a stop was left for a run that has not begun: it need not begin."""
    names = [name for name in os.listdir(folder / "control") if name[0].isdigit()]
    return bool(names) and all(name.endswith("-stop.json") for name in names)


def clear(folder: Path) -> None:
    """Forget all commands, before a run is handed to a new supervisor."""
    for path in (folder / "control").iterdir():
        path.unlink(missing_ok=True)


def begin(folder: Path) -> None:
    """Forget what was announced, before ranks count announcements anew; commands that none has taken stay."""
    (folder / "control" / ANNOUNCED).unlink(missing_ok=True)


class Control:
    """
    What a rank does about commands, at the start of each step.

    Rank 0's thread looks for commands. Rank 0 announces them for the step `lead` steps ahead, before it enters the
    collective of the step at hand; another rank can only reach that later step through that collective, so all ranks
    read the same announcement at the same step (`lead` is 1 where the host waits for each collective, and each step
    has one).

    Parameters
    ----------
    lead
        Steps between announcement and effect.
    board
        Where they are announced to ranks of other machines; to those of this one a file in the folder will do.
    """

    def __init__(self, folder: Path, rank: int, world: int, lead: int = 1, board: Board | None = None) -> None:
        self._folder = folder
        self._rank, self._world, self._lead = rank, world, lead
        self._file, self._board = folder / "control" / ANNOUNCED, board
        self._stamp: tuple[int, int, int] | None = None
        self._announced: list[dict[str, Any]] = []
        self._total = self._taken = 0  # commands announced, and obeyed, so far
        self._new: deque[dict[str, Any]] = deque()  # filled by the thread, emptied by the loop
        self._asked: set[tuple[Any, ...]] = set()  # commands of hooks, and the steps at which they gave them
        self._closed = threading.Event()
        if rank == 0:
            threading.Thread(target=self._watch, name="lepton-lab-control", daemon=True).start()

    def close(self) -> None:
        """Look for no more commands."""
        self._closed.set()

    def ask(self, command: str, step: int, **values: float) -> None:
        """Give a command from a rank's own code at a step; the same one from several ranks counts once."""
        values = {"asked": step, **values}
        if self._rank == 0:
            self._add({"command": command, **values})
        elif self._board:
            self._board.write(f"{ASKED}{self._board.count(ASKED)}", json.dumps({"command": command, **values}))
        else:
            send(self._folder, command, **values)

    def next(self, step: int, waiting: bool = False) -> dict[str, Any] | None:
        """
        The next command that takes effect now, the same on every rank, or None.

        Parameters
        ----------
        step
            Optimizer steps done.
        waiting
            This rank is paused at this step, and takes what is announced for any; while nothing that would end the
            pause is announced, all others stand still too, and an announcement takes effect at once.
        """
        if self._rank == 0:
            if self._new:
                # With something left to take, such as a resume, others may have taken it and gone on.
                still = waiting and self._taken == self._total
                self._announce(step, 0 if still or self._world == 1 else self._lead)
            elif self._taken == self._total:
                return None
        else:
            self._look()
        if self._taken < self._total:
            command = self._announced[self._taken - self._total]  # counted from the end, since the oldest are dropped
            # What was announced for later, before the pause was obeyed, is not waited for: no step comes to reach it.
            if waiting or command["at"] <= step:
                self._taken += 1
                return command
        return None

    def _announce(self, step: int, lead: int) -> None:
        while self._new:
            self._announced.append({**self._new.popleft(), "at": step + lead})
            self._total += 1
        # The others are fewer than `lead` steps behind: what took effect before need not be written again.
        needed = sum(command["at"] >= step - self._lead for command in self._announced)
        self._announced = self._announced[-max(KEPT, needed) :]
        announcement = {"total": self._total, "commands": self._announced}
        if self._world > 1 and self._board:
            self._board.tell(ANNOUNCED, json.dumps(announcement))
        elif self._world > 1:
            write_json(self._file, announcement)

    def _look(self) -> None:
        if (text := self._board.news(ANNOUNCED) if self._board else self._read()) is not None:
            announcement = json.loads(text)
            self._total, self._announced = announcement["total"], announcement["commands"]

    def _read(self) -> str | None:
        """What the file says, if it was replaced since the last look."""
        try:
            stat = self._file.stat()
        except FileNotFoundError:
            return None
        stamp, before = (stat.st_mtime_ns, stat.st_ino, stat.st_size), self._stamp
        self._stamp = stamp
        return None if stamp == before else self._file.read_text()

    def _watch(self) -> None:
        seen: set[str] = set()  # taken, but there still: a stop, or what can't be removed
        heard = 0
        while not self._closed.wait(POLL):
            with contextlib.suppress(OSError, RuntimeError):  # a network may fail for a moment, or others be gone
                while self._world > 1 and self._board and heard < self._board.count(ASKED, 0):
                    self._add(json.loads(self._board.read(f"{ASKED}{heard + 1}")))
                    heard += 1
                names = sorted(name for name in os.listdir(self._folder / "control") if name[0].isdigit())
                seen &= set(names)
                for name in (name for name in names if name not in seen):
                    self._take(self._folder / "control" / name)
                    seen.add(name)
                for name in (name for name in seen if not name.endswith("-stop.json")):  # the supervisor is to see that
                    with contextlib.suppress(OSError):
                        (self._folder / "control" / name).unlink()

    def _add(self, command: dict[str, Any]) -> None:
        if "asked" in command:
            key = tuple(sorted(command.items()))
            if key in self._asked:
                return
            self._asked.add(key)
        self._new.append(command)

    def _take(self, path: Path) -> None:
        """Take the command in a file; one that holds none is left alone, and a line in the rank's log says so."""
        with contextlib.suppress(ValueError, IsADirectoryError, PermissionError):
            if _valid(command := json.loads(path.read_text())):
                self._add(command)
                return
        print(f"{path} holds no command: it is passed over", file=sys.stderr, flush=True)


def _valid(command: Any) -> bool:
    """Whether JSON is a command that ranks can obey."""
    if not isinstance(command, dict) or command.get("command") not in COMMANDS:
        return False
    values = [value for name, value in command.items() if name != "command"]
    return all(isinstance(value, (int, float)) and math.isfinite(value) for value in values)
