"""The process that carries runs of this machine up to their store, and brings commands for them down."""

from __future__ import annotations

import contextlib
import fcntl
import json
import secrets
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ...files import home, locked, read_json, remote, write_bytes
from ...host import entitle
from .. import control
from ..story import ENDED
from . import saved, segments
from .bucket import Bucket, refusal
from .link import CARRIED, PULLED, STORED, apart, carried, elsewhere, note

INTERVAL, REST = 0.4, 0.1  # seconds between looks, and from one's end to the next at least
BEAT = 2.0  # seconds between segments of a live run in which nothing happens
AGAIN = (0.5, 5.0)  # seconds until a store that could not be reached is tried again: at first, and at most
PATIENCE = 600.0  # seconds after the last run's end in which it is tried


def main() -> None:
    """Carry until no run is live and all is up, or the store was silent for too long."""
    entitle("lepton-carrier")
    address, root, lock = remote(), home(), int(sys.argv[1])
    assert address is not None, "it is started for a store"
    with contextlib.suppress(BlockingIOError):  # another one carries by now
        while True:
            carry(address, root)
            fcntl.flock(lock, fcntl.LOCK_UN)
            # Who launched meanwhile saw the lock held, and relies on us.
            if not any(locked(path / "lock") for path in (root / "runs").glob("[!.]*")):
                return
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def carry(address: str, root: Path) -> None:
    """Carry all runs under a root, as `main` does."""
    for left in (root / "runs").glob(".step-*"):  # staged by one that was killed
        shutil.rmtree(left, ignore_errors=True)
    bucket, runs = Bucket(address), dict[str, Carried]()
    pause, reached = AGAIN[0], time.monotonic()
    with ThreadPoolExecutor(2, "lepton-lab-upload") as pool:
        while True:
            begun = time.monotonic()
            for path in (root / "runs").glob("[!.]*"):
                if path.name not in runs and not (path / PULLED).exists() and (path / "spec.json").exists():
                    runs[path.name] = Carried(bucket, path, pool)
            busy, trouble = _round(address, list(runs.values()))
            if trouble:
                pause = min(2 * pause, AGAIN[1])
                if not busy and time.monotonic() > reached + PATIENCE:
                    return
            else:
                pause, reached = AGAIN[0], time.monotonic()
                if not busy:
                    return
            time.sleep(pause if trouble else max(REST, begun + INTERVAL - time.monotonic()))


def _round(address: str, runs: list[Carried]) -> tuple[bool, bool]:
    """Carry what is new of each; returns whether one is live or on its way, and whether the store could not be used."""
    busy = trouble = False
    for run in runs:
        try:
            busy |= run.step()
        except Exception as error:  # of any library that fsspec builds on
            run.trouble(refusal(address, error))
            busy |= locked(run.path / "lock")
            trouble = True
    return busy, trouble


class Carried:
    """A run that is carried up."""

    def __init__(self, bucket: Bucket, path: Path, pool: ThreadPoolExecutor) -> None:
        self.bucket, self.path, self.pool = bucket, path, pool
        self.prefix = f"runs/{path.name}"
        fresh = {"address": bucket.address, "writer": secrets.token_hex(8), "next": 0, "sent": {}, "saved": {}}
        fresh |= {"stretch": {"at": 0, "sent": {}}}
        self.record: dict[str, Any] = {**fresh, "alive": None, "t": 0.0, **(carried(path) or {})}
        self.uploads: dict[str, tuple[int, Future[str]]] = {}  # by step: the time of its marker
        self.swept = True  # whether the store has no checkpoint but those that count
        self.settled: int | None = None  # the folder's time when all was up

    @property
    def wanted(self) -> bool:
        """Whether it is ours, and there."""
        return self.path.exists() and not (self.record.get("lost") or (self.path / PULLED).exists())

    def step(self) -> bool:
        """Carry what is new; returns whether more is to come."""
        if not self.wanted or self.settled == (stamp := self.path.stat().st_mtime_ns):
            return False
        before = self.record["next"]
        alive = locked(self.path / "lock")
        if alive:
            self._commands()
        self._checkpoints(alive)
        alive |= bool(self.uploads)  # an end is told when all of it is up
        for bundle in segments.bundles(self._pieces(alive, self.record["sent"])):
            if not self._put(bundle, alive):
                break
        if alive != self.record["alive"] or (alive and time.time() > self.record["t"] + BEAT):
            self._put([], alive)
        if self.record.pop("trouble", None):
            note(self.path, CARRIED, self.record)
        elif not alive and self.record["next"] == before:
            self.settled = stamp  # which a resume or a label changes, as whatever replaces a file in the folder
        return (alive or self.record["next"] != before) and not self.record.get("lost")

    def trouble(self, sentence: str) -> None:
        """Say in the folder that the store can't be reached, and since when."""
        if self.wanted:
            self.record |= {"trouble": sentence, "since": self.record["t"] or self.path.stat().st_mtime}
            note(self.path, CARRIED, self.record)

    def _pieces(self, alive: bool, sent: segments.Sent) -> Iterator[segments.Piece]:
        for piece in segments.pieces(self.path, sent):
            if not (piece.name == segments.LAST and alive and json.loads(piece.data)["state"] in ENDED):
                yield piece

    def _put(self, bundle: list[segments.Piece], alive: bool) -> bool:
        """Put the next segment, as told; another writer's in its place means that the run is no more ours."""
        if not self.wanted:
            return False
        told = True
        gone = segments.gone(self.path, self.record["sent"])
        prefixes = {step: prefix for step, (prefix, _) in self.record["saved"].items()} | elsewhere(self.path)
        about = {"writer": self.record["writer"], "host": socket.gethostname(), "t": time.time(), "alive": alive}
        about |= {"gone": gone, "saved": prefixes, "apart": apart(self.path)}
        name = f"{self.prefix}/{segments.name(self.record['next'])}"
        try:
            self.bucket.put(name, segments.pack(about, bundle))
        except FileExistsError:
            about, bundle = segments.unpack(self.bucket.get([name])[name])
            if about["writer"] != self.record["writer"]:
                self._lose(about["host"])
                return False
            # Ours, put before an answer was lost: what it lacks, and files that are replaced, go with the next.
            bundle, told = [piece for piece in bundle if piece.size is None], False
        self.record |= {"next": self.record["next"] + 1, "alive": about["alive"], "t": about["t"]}
        for called in about["gone"]:
            self.record["sent"].pop(called, None)
        self.record["sent"] |= {piece.name: sent for piece in bundle if (sent := piece.sent) is not None}
        note(self.path, CARRIED, self.record)
        if self.record["next"] % segments.STRETCH == 0:
            self._merge({**about, "alive": alive}, bundle)
        return told

    def _merge(self, about: dict[str, Any], last: list[segments.Piece]) -> None:
        """Put what the segments since the last stretch told as one object, too, and begin another stretch."""
        begun, end = self.record.get("stretch"), self.record["next"]
        self.record["stretch"] = {"at": end, "sent": dict(self.record["sent"])}
        # One that another machine began is none of ours, nor one that ends in the middle of a file.
        if not begun or begun["at"] != end - segments.STRETCH or (last and last[-1].sent is None):
            return
        changed = list(self._pieces(about["alive"], begun["sent"]))
        if sum(len(piece.data) for piece in changed) <= segments.LARGE:
            body = segments.pack({**about, "gone": segments.gone(self.path, begun["sent"])}, changed)
            with contextlib.suppress(FileExistsError):  # of ours, whose answer was lost
                self.bucket.put(f"{self.prefix}/{segments.stretch(begun['at'])}", body)

    def _lose(self, host: str) -> None:
        """End what runs here, since another machine has gone on with it."""
        self.record |= {"lost": host}
        note(self.path, CARRIED, self.record)
        if locked(self.path / "lock"):
            control.send(self.path, "stop")

    def _commands(self) -> None:
        """Lay what others sent into the folder; what takes it up judges it."""
        names = [name for name in self.bucket.names(f"{self.prefix}/control") if "/" not in name and name[0].isdigit()]
        place = f"{self.prefix}/control"
        for name, body in self.bucket.get([f"{place}/{name}" for name in names]).items():
            write_bytes(self.path / "control" / name.rsplit("/", 1)[-1], body)
            self.bucket.remove(name)

    def _checkpoints(self, alive: bool) -> None:
        """Send the newest on its way, note one that is up, and remove there what is gone here."""
        done = {step: self.uploads.pop(step) for step in [s for s, each in self.uploads.items() if each[1].done()]}
        if apart(self.path):
            self.record["saved"] = {}  # they are for the nodes to say
            return
        there = {mark.parent.name: mark.stat().st_mtime_ns for mark in saved.markers(self.path)}
        if told := read_json(self.path / STORED):
            self._take_over(told["saved"], there)
        kept, before = self.record["saved"], dict(self.record["saved"])
        for step, (stamp, upload) in done.items():
            kept[step] = [upload.result(), stamp]
        for step in [step for step in kept if step not in there and (not alive or max(kept) > step)]:
            del kept[step]
        self.swept &= kept == before
        if not (self.swept or self.uploads) and self._put([], True):  # it is told before what it replaces goes
            saved.sweep(self.bucket, self.prefix, [prefix for prefix, _ in kept.values()], self._attempt)
            self.swept = True
        missing = [step for step, stamp in there.items() if kept.get(step, [None, None])[1] != stamp]
        if missing and not self.uploads:  # one at a time: what is older may be gone when its turn comes
            step = max(missing)
            with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                staged = saved.stage(self.path / "checkpoints" / step, self.path.parent, self._attempt)
                self.uploads[step] = there[step], self.pool.submit(saved.upload, self.bucket, self.prefix, staged)

    def _take_over(self, told: dict[str, str], there: dict[str, int]) -> None:
        """Keep from now on what nodes put on the store, as it was brought home, or is to be replaced."""
        same = {step for step, prefix in told.items() if saved.source(self.path, step) == prefix}
        self.record["saved"] = {s: [prefix, there.get(s) if s in same else None] for s, prefix in told.items()}
        note(self.path, CARRIED, self.record)
        (self.path / STORED).unlink()

    @property
    def _attempt(self) -> int:
        """Which beginning of the run's ranks is the last."""
        return int((read_json(self.path / segments.LAST) or {}).get("attempt", 0))
