"""
Ranks whose machines share no disk: how each beginning of them is agreed on, and how commands reach rank 0.

On the board, at the store by which the ranks of one beginning meet:
    flushed       counts nodes that have sent the last of the beginning before; rank 0 waits for all
    begun         what the supervisor says of this one; all ranks wait for it
    copiedN       where node N has its copy of the run's folder; its ranks wait for it
    readyN        the last checkpoint is there; its ranks wait for it

At the supervisor's store, by numbers that count up:
    beginnings    counts them; the ranks of all but the last end (`worker`)
    askN          rank 0 of beginning N asks to begin, with so many ranks; the supervisor looks for it
    beginN        the answer; rank 0 waits for it
    commands, commandN    what the supervisor found in the run's folder; rank 0 looks for it, and may be given one again
    takenN        rank 0 has taken it; the supervisor removes it
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import LabError
from ...files import write_text
from ...store import control
from ...store.apart import SAVED, ApartFolder
from ...store.board import Board
from ...store.folder import RunFolder
from ...store.objects import link, mirror, starting
from ...store.objects.gathering import Gathering, up
from .. import failures, remote
from .plan import Plan

if TYPE_CHECKING:
    from torch.distributed import TCPStore

POLL = 0.1  # seconds between looks for commands
CARRIED = 60.0  # seconds for what the supervisor's machine has to be on the store
BEGUN = 180.0  # seconds for a beginning to be agreed on
LAST = 20.0  # seconds in which the last of what nodes sent is asked for, where the store can't be reached


def begin(root: Path, plan: Plan, beginning: int, number: int, here: int, world: int) -> ApartFolder:
    """
    Begin as one of the ranks, all of which call it; returns the folder that this one is to work in.

    What an earlier beginning wrote is on the store before rank 0 asks the supervisor, which says what the run has come
    to. From that each node makes a copy of its own.
    """
    board = Board(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), plan.timeout)
    node, nodes, first = int(os.environ["GROUP_RANK"]), world // plan.ranks, here == 0
    if first:
        with board.working():
            mirror.flush(root)
        board.count("flushed")
    if number == 0:
        board.wait(lambda: board.count("flushed", 0) >= nodes, "flushed")
        with board.working():
            begun = _asked(plan, beginning, world)
        board.write(SAVED, json.dumps(begun["saved"]))
        board.write("begun", json.dumps(begun))
    begun = json.loads(board.read("begun"))
    if first:
        with board.working():
            board.write(f"copied{node}", str(mirror.copied(root, begun, node)))
    path = Path(board.read(f"copied{node}"))
    folder = ApartFolder(path, board, world=world, number=number, node=node, nodes=nodes, first=first)
    if first:
        if steps := folder.checkpoints():
            with contextlib.suppress(LabError):  # who loads it says so
                folder.checkpoint(steps[-1])
        board.write(f"ready{node}", "")
    board.read(f"ready{node}")
    if number == 0:
        threading.Thread(target=_take, args=(plan, path, begun["commands"]), name="lepton-post", daemon=True).start()
    return folder


def _asked(plan: Plan, beginning: int, world: int) -> dict[str, Any]:
    """What the supervisor says of a beginning with so many ranks."""
    store = plan.connect()
    store.set_timeout(datetime.timedelta(seconds=BEGUN))
    store.set(f"ask{beginning}", str(world))
    begun: dict[str, Any] = json.loads(store.get(f"begin{beginning}"))
    return begun


def _take(plan: Plan, path: Path, seen: int) -> None:
    """Lay commands into rank 0's folder as they come, and tell of each that was taken."""
    laid: dict[int, Path] = {}
    with contextlib.suppress(RuntimeError, LabError):  # the supervisor is gone, and its nodes end for that
        store = plan.connect()
        while True:
            while seen < store.add("commands", 0):
                seen += 1
                name, body = json.loads(store.get(f"command{seen}"))
                laid[seen] = path / "control" / name
                write_text(laid[seen], body)
            for number in [number for number, file in laid.items() if not file.exists()]:
                del laid[number]
                store.set(f"taken{number}", "")
            time.sleep(POLL)


class Apart:
    """The supervisor's part."""

    def __init__(self, folder: RunFolder, plan: Plan, store: TCPStore) -> None:
        self.folder, self.plan, self.store = folder, plan, store
        self.gathering = Gathering(folder, plan.store, plan.life)
        self._begun = self._answered = 0
        self._posted: dict[str, int] = {}  # commands by name, in the order in which rank 0 is given them

    def start(self) -> None:
        """Have on the store what this machine has of the run, before nodes ask for it."""
        until, told = time.monotonic() + CARRIED, None
        while up(self.folder) is None and not control.stopping(self.folder.path):
            starting.begin()
            if (now := (link.carried(self.folder.path) or {}).get("next")) != told:  # large ones may take long
                until, told = time.monotonic() + CARRIED, now
            if time.monotonic() > until:
                why = link.late(self.folder.path) or "nobody carries it there"
                raise LabError(f"what this machine has of the run is not on {self.plan.store!r} yet: {why}")
            time.sleep(POLL)
        self.gathering.start()

    def look(self) -> None:
        """Answer ranks that begin, but for those of a run of which one has failed, and pass commands on."""
        last = self.store.add("beginnings", 0)
        if last > self._begun and self.store.check([f"ask{last}"]):
            with contextlib.suppress(LabError):  # the store can't be reached now
                self._begin(last)
        if self._answered < self._begun:
            self._answer()
        elif self._begun:
            self._post()

    def _begin(self, number: int) -> None:
        """Have in the folder what the run has come to, and say there that ranks begin."""
        self.gathering.drain()
        if failures.began(failures.reports(self.folder)) is None:
            world = int(self.store.get(f"ask{number}"))
            remote.begin(self.folder, world)
            self.gathering.begin(self.folder.facts["attempt"], world // self.plan.ranks)
            starting.begin()
            self._begun = number

    def _answer(self) -> None:
        """Say how ranks begin, as soon as they can have it all from the store."""
        if (number := up(self.folder)) is None:
            starting.begin()  # where what carries it has ended
            return
        self._posted.clear()  # rank 0 is given anew what none has taken
        begun = {"attempt": self.folder.facts["attempt"], "next": number, "saved": link.elsewhere(self.folder.path)}
        begun["commands"] = self.store.add("commands", 0)
        self.store.set(f"begin{self._begun}", json.dumps(begun))
        self._answered = self._begun

    def _post(self) -> None:
        place = self.folder.path / "control"
        names = sorted(path.name for path in place.glob("[0-9]*.json"))
        for name in (name for name in names if name not in self._posted):
            number = self._posted[name] = self.store.add("commands", 0) + 1
            self.store.set(f"command{number}", json.dumps([name, (place / name).read_text()]))
            self.store.add("commands", 1)
        for name in (name for name in names if self.store.check([f"taken{self._posted[name]}"])):
            (place / name).unlink(missing_ok=True)

    def end(self) -> str:
        """Take in the last of what nodes sent; returns why it could not be, or ""."""
        until, trouble = time.monotonic() + LAST, "it was not asked for"
        while trouble and time.monotonic() < until:
            try:
                self.gathering.drain()
                trouble = ""
            except LabError as error:
                trouble = str(error)
                time.sleep(POLL)
        self.gathering.close(whole=not trouble)
        return trouble
