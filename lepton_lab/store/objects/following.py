"""Runs of other machines, brought down from a store: all of it once, then what is new, while they are live."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import secrets
import shutil
import socket
import threading
import time
import warnings
from pathlib import Path
from typing import Any, ClassVar

from ...errors import LabError
from ...files import cache, locked, remote
from ..trust import close_to_others
from . import saved, segments
from .bucket import Bucket, refusal
from .link import CARRIED, PULLED, alive, carried, note, pulled

INTERVAL = 0.2  # seconds between looks at live runs
AHEAD = 64  # most segments that are asked for at once
PARTS = ("events", "control", "checkpoints", "errors", "logs")


def refresh(address: str, only: str | None = None) -> None:
    """
    As `bring`; where the store can't be reached, the runs are as they were last seen, with a warning.

    Raises
    ------
    LabError
        If it can't be reached, and none was seen before.
    """
    try:
        bring(address, only)
    except LabError as error:
        if not any((cache(address) / "runs").glob("[!.]*")):
            raise
        warnings.warn(f"{error}; runs are shown as they were last seen", stacklevel=3)


def bring(address: str, only: str | None = None) -> None:
    """
    Bring down what is new of all runs at an address, or of `only` one; live ones are followed from then on.

    Raises
    ------
    LabError
        If the store can't be reached.
    """
    try:
        _bring(address, only)
    except LabError:
        raise
    except Exception as error:  # of any library that fsspec builds on
        raise LabError(f"runs can't be read at {refusal(address, error)}") from None
    finally:
        _Follower.see(address)


def _bring(address: str, only: str | None) -> None:
    bucket, root = _bucket(address), cache(address) / "runs"
    there = bucket.names("runs") if only is None else [only]
    for path in root.glob("[!.]*") if only is None else ():
        if path.name not in there and pulled(path):  # deleted
            shutil.rmtree(path, ignore_errors=True)
    ours = [root / name for name in there if (root / name / "spec.json").exists() and not pulled(root / name)]
    for path in _overtaken(bucket, [path for path in ours if not locked(path / "lock")]):
        shutil.rmtree(path)
        ours.remove(path)
    _look(bucket, [path for name in there if (path := root / name) not in ours])


def _overtaken(bucket: Bucket, ours: list[Path]) -> list[Path]:
    """Runs of this machine, ended here, with which another has gone on: theirs is the segment after our last."""
    records = {path: record for path in ours if (record := carried(path))}
    wanted = {f"runs/{path.name}/{segments.name(record['next'])}": path for path, record in records.items()}
    objects = bucket.get(wanted)
    writers = {wanted[name]: segments.unpack(body)[0]["writer"] for name, body in objects.items()}
    return [path for path, writer in writers.items() if writer != records[path]["writer"]]


def _look(bucket: Bucket, folders: list[Path]) -> None:
    """Bring down those that have a segment more, and note of the others that there is none."""
    wanted = {f"runs/{path.name}/{segments.name((pulled(path) or _fresh(bucket))['next'])}": path for path in folders}
    objects = bucket.get(wanted)
    for name, path in wanted.items():
        if name in objects:
            pull(bucket, path)
        elif path.is_dir():
            with _alone(path):
                if record := pulled(path):
                    note(path, PULLED, {**record, "looked": time.time(), "trouble": None})


def _fresh(bucket: Bucket) -> dict[str, Any]:
    begins = {"next": 0, "saved": {}, "alive": False, "host": "", "arrived": 0.0, "looked": 0.0}
    return {"address": bucket.address, **begins}


def pull(bucket: Bucket, path: Path) -> None:
    """Apply all segments of a run that there are by now."""
    for part in PARTS:
        (path / part).mkdir(parents=True, exist_ok=True)
    ahead, seen = 1, (pulled(path) or {"next": 0})["next"] > 0
    with _alone(path):
        while ahead:
            if not pulled(path) and carried(path):  # claimed by us while we looked
                return
            if (record := pulled(path)) is None:  # said first: a folder that says nothing is one of this machine
                record = _fresh(bucket)
                note(path, PULLED, record)
            found, names, each = _next(bucket, f"runs/{path.name}", record["next"], ahead)
            for name in names:
                if name not in found:
                    ahead = 0
                    break
                try:
                    about, pieces = segments.unpack(found[name])
                except LabError as error:
                    raise LabError(f"{name!r} of {bucket.address!r} can't be read: {error}") from None
                segments.apply(path, about, pieces)
                record |= {key: about[key] for key in ("saved", "alive", "host")} | {"trouble": None}
                record["apart"] = about.get("apart", False)
                # Of what comes while we look our own clock tells the time: the other machine's may differ.
                now = time.time()
                record |= {"next": record["next"] + each, "looked": now, "arrived": now if seen else about["t"]}
                note(path, PULLED, record)
            ahead = min(2 * ahead, AHEAD)
    if not seen:
        close_to_others(path)


def _next(bucket: Bucket, run: str, number: int, ahead: int) -> tuple[dict[str, bytes], list[str], int]:
    """The stretch of segments that begins at a number, or else some that there may be; how many each stands for."""
    if number % segments.STRETCH == 0 and (found := bucket.get([name := f"{run}/{segments.stretch(number)}"])):
        return found, [name], segments.STRETCH
    to_stretch = segments.STRETCH - number % segments.STRETCH
    names = [f"{run}/{segments.name(number + more)}" for more in range(min(ahead, to_stretch))]
    return bucket.get(names), names, 1


@contextlib.contextmanager
def _alone(path: Path) -> Any:
    """Have other processes of this machine wait that bring the same run down."""
    with (path / ".pulled.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@functools.lru_cache(8)
def _bucket(address: str) -> Bucket:
    return Bucket(address)


class _Follower(threading.Thread):
    """Follows an address's live runs until all have ended."""

    here: ClassVar[dict[str, _Follower]] = {}
    lock = threading.Lock()

    def __init__(self, address: str) -> None:
        super().__init__(name="lepton-lab-follow", daemon=True)
        self.address = address

    @classmethod
    def see(cls, address: str) -> None:
        """See that live runs are followed by this process."""
        with cls.lock:
            if address not in cls.here and _live(address):
                cls.here[address] = cls(address)
                cls.here[address].start()

    def run(self) -> None:
        while True:
            with self.lock:
                if not (paths := _live(self.address)):
                    del self.here[self.address]
                    return
            try:
                _look(_bucket(self.address), paths)
            except Exception as error:  # of any library that fsspec builds on
                for path in paths:
                    with contextlib.suppress(OSError), _alone(path):
                        if record := pulled(path):
                            note(path, PULLED, {**record, "trouble": refusal(self.address, error)})
            time.sleep(INTERVAL)


os.register_at_fork(after_in_child=_Follower.here.clear)


def _live(address: str) -> list[Path]:
    return [path for path in (cache(address) / "runs").glob("[!.]*") if alive(path)]


def claim(folder: Path) -> None:
    """
    Make a run of another machine one of this machine, to go on with it: its next segment is ours.

    Raises
    ------
    LabError
        If another has it, or goes on with it; its store is not that of LEPTON_LAB_HOME; or it can't be reached.
    """
    record = pulled(folder)
    if record is None:
        return
    address, id = record["address"], folder.name
    if address != remote():
        raise LabError(f"run {id!r} is kept at {address!r}: set LEPTON_LAB_HOME={address!r} to go on with it here")
    try:
        _claim(_bucket(address), folder)
    except LabError:
        raise
    except FileExistsError:
        raise LabError(f"run {id!r} is being resumed by another machine or process") from None
    except Exception as error:  # of any library that fsspec builds on
        raise LabError(f"run {id!r} can't be gone on with here; {refusal(address, error)}") from None


def _claim(bucket: Bucket, folder: Path) -> None:
    _look(bucket, [folder])
    if alive(folder):
        raise LabError(f"run {folder.name!r} is at work on {(pulled(folder) or {})['host']}: stop it first")
    if (record := pulled(folder)) and record.get("apart"):  # nodes may have saved since the last segment
        note(folder, PULLED, {**record, "saved": saved.committed(bucket, f"runs/{folder.name}")})
    for step in sorted((pulled(folder) or {}).get("saved", ())):
        saved.fetch(folder, step, bucket)
    with _alone(folder):
        if (record := pulled(folder)) is None:
            raise FileExistsError("another process of this machine goes on with it")
        writer, now = secrets.token_hex(8), time.time()
        about = {"writer": writer, "host": socket.gethostname(), "t": now, "alive": True, "gone": []}
        body = segments.pack(about | {"saved": record["saved"]}, [])
        bucket.put(f"runs/{folder.name}/{segments.name(record['next'])}", body)
        sent = {piece.name: piece.sent for piece in segments.pieces(folder, {}) if piece.sent is not None}
        marked = {step: [prefix, _marked(folder, step)] for step, prefix in record["saved"].items()}
        ours = {"address": bucket.address, "writer": writer, "next": record["next"] + 1, "sent": sent, "saved": marked}
        note(folder, CARRIED, {**ours, "alive": True, "t": now})
        (folder / PULLED).unlink()


def _marked(folder: Path, step: str) -> int:
    return (folder / "checkpoints" / step / saved.MARKER).stat().st_mtime_ns
