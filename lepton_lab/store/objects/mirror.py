"""A node's copies of a run that it shares no disk for: one brought down, and of each beginning one that goes up."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ...errors import LabError
from ...files import cache, locked, write_json
from . import bucket, segments
from .bucket import Bucket, patiently, refusal
from .following import pull
from .link import PULLED, note, pulled

INTERVAL = 0.15  # seconds between looks
LOOK = 0.02  # seconds between looks for who waits for one
AGAIN = (0.5, 5.0)  # seconds until a store that could not be reached is tried again: at first, and at most
PATIENCE = 20.0  # seconds in which the last of it is tried
BROUGHT = ("spec.json", "state.json", "nodes.json")  # what ranks are told by these they don't tell by them
KNOWN = "known.json"  # beside a copy: what was brought down into it
ASK = ".flush-"  # begins the name of a file whose asker waits until all that was there before it is up


def sent_to(run: str, life: str, attempt: int, node: int) -> str:
    """The prefix of what a node sends of one beginning of a run's ranks."""
    return f"runs/{run}/nodes/{life}/{attempt}.{node}"


class Mirror:
    """
    What a node has of a run, under a folder of its own that is gone when it ends.

    Parameters
    ----------
    address, id
        Of the store, and of the run there.

    Attributes
    ----------
    root : Path
        That folder.
    base : Path
        The run's folder as its supervisor has it, some moments ago.
    """

    def __init__(self, address: str, id: str) -> None:
        self.bucket = Bucket(address)
        place = cache(address) / "nodes"
        place.mkdir(parents=True, exist_ok=True)
        self.root = place / secrets.token_hex(4)
        self.base = self.root / "base" / id
        with (place / ".lock").open("w") as alone:  # or another that begins would take ours for one that was left
            fcntl.flock(alone, fcntl.LOCK_EX)
            for left in place.glob("[!.]*"):
                if not locked(left / "lock"):  # by a node that was killed
                    shutil.rmtree(left, ignore_errors=True)
            self.base.mkdir(parents=True)
            self._lock = (self.root / "lock").open("w")
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._copies: dict[str, _Copy] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lepton-mirror", daemon=True)

    def bring(self) -> None:
        """Bring down what is new. LabError if the store can't be reached."""
        try:
            pull(self.bucket, self.base)
        except LabError:
            raise
        except Exception as error:  # of any library that fsspec builds on
            raise LabError(f"runs can't be read at {refusal(self.bucket.address, error)}") from None

    def start(self, life: str) -> None:
        """Keep it so from now on, and send what ranks write in a life of the run."""
        self.life = life
        self._thread.start()

    def finish(self) -> None:
        """Send the last of it, if the store can be reached in time."""
        self._over.set()
        self._thread.join()
        until = time.monotonic() + PATIENCE
        while not self._tried() and time.monotonic() < until:
            time.sleep(AGAIN[0])

    def close(self) -> None:
        """Remove all that it has here."""
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join()
        shutil.rmtree(self.root, ignore_errors=True)
        self._lock.close()

    def _run(self) -> None:
        pause = due = 0.0
        while not self._over.wait(LOOK):
            if time.monotonic() > due or (pause <= INTERVAL and any(self.root.glob(f"{ASK}*"))):
                pause = INTERVAL if self._tried() else min(2 * pause + AGAIN[0], AGAIN[1])
                due = time.monotonic() + pause

    def _tried(self) -> bool:
        try:
            self._round()
        except Exception as error:  # of any library that fsspec builds on
            print(refusal(self.bucket.address, error), file=sys.stderr, flush=True)
            return False
        return True

    def _round(self) -> None:
        asked = list(self.root.glob(f"{ASK}*"))
        for name in sorted(path.name for path in (self.root / "attempts").glob("[!.]*")):
            if name not in self._copies:
                attempt, node = (int(word) for word in name.split("."))
                place = self.root / "attempts" / name / self.base.name
                self._copies[name] = _Copy(self.bucket, place, sent_to(self.base.name, self.life, attempt, node))
        for copy in self._copies.values():
            copy.send()
        for path in asked:
            path.unlink(missing_ok=True)
        pull(self.bucket, self.base)
        newest = max(self._copies.values(), key=lambda copy: copy.attempt, default=None)
        for name, copy in [each for each in self._copies.items() if each[1] is not newest]:
            del self._copies[name]
            shutil.rmtree(copy.path.parent, ignore_errors=True)
        if newest:
            newest.lay(self.base)


class _Copy:
    """
    A run's folder as ranks of one beginning have it.

    `brought` has the stamps of files as the supervisor had them when they were taken over: one that differs is the
    ranks' own, and wins. `sent` has those too, and what of the ranks' own is on the store.
    """

    def __init__(self, bucket: Bucket, path: Path, prefix: str) -> None:
        self.bucket, self.path, self.prefix = bucket, path, prefix
        self.attempt = int(path.parent.name.split(".")[0])
        self.brought: segments.Sent = json.loads((path.parent / KNOWN).read_text())
        self.sent: segments.Sent = dict(self.brought)
        self.next = 0

    def send(self) -> None:
        """Send what ranks wrote since the last time."""
        while not all(self._put(bundle) for bundle in segments.bundles(self._pieces())):
            pass
        if gone := [name for name in segments.gone(self.path, self.sent) if name not in BROUGHT]:
            self._put([], gone)

    def _pieces(self) -> Iterator[segments.Piece]:
        return (piece for piece in segments.pieces(self.path, self.sent) if piece.name not in BROUGHT)

    def _put(self, bundle: list[segments.Piece], gone: Sequence[str] = ()) -> bool:
        """Put the next segment; whether it was put as told, and no part is left to be sent once more."""
        name, told = f"{self.prefix}/{segments.name(self.next)}", True
        try:
            self.bucket.put(name, segments.pack({"gone": [*gone]}, bundle))
        except FileExistsError:  # ours, put before an answer was lost
            about, bundle = segments.unpack(self.bucket.get([name])[name])
            # Of files that are replaced it may have an older state.
            bundle, gone, told = [piece for piece in bundle if piece.size is None], about["gone"], False
        self.next += 1
        self.sent |= {piece.name: sent for piece in bundle if (sent := piece.sent) is not None}
        for called in gone:
            self.sent.pop(called, None)
        return told

    def lay(self, base: Path) -> None:
        """Take over files that ranks of other nodes wrote, but for those that ranks of this one have, too."""
        for name in segments.files(base):
            ours, theirs = segments.stamp(self.path / name), segments.stamp(base / name)
            if not _laid(name) or theirs is None or self.brought.get(name) == list(theirs):
                continue
            if ours is None or self.brought.get(name) == list(ours):
                with contextlib.suppress(FileNotFoundError):  # it went meanwhile
                    lay(base / name, self.path / name)
                    self.brought[name] = self.sent[name] = list(theirs)


def copied(root: Path, begun: dict[str, Any], node: int) -> Path:
    """
    Make a copy for ranks that begin, in which they write what they will; returns it.

    Parameters
    ----------
    root
        The mirror's.
    begun
        What the supervisor said: `attempt`, and `next`, the number of segments of the run that are to be in it.
    """
    ours = base(root)
    record = pulled(ours)
    assert record is not None, "it was brought down"
    there = Bucket(record["address"])
    while record["next"] < begun["next"]:
        patiently(there.address, lambda: pull(there, ours))
        record = pulled(ours) or record
    place = root / "attempts" / f"{begun['attempt']}.{node}"
    draft = place.with_name(f".{place.name}")
    shutil.rmtree(draft, ignore_errors=True)
    path = draft / ours.name
    for part in ("events", "control", "errors", "logs", "facts"):
        (path / part).mkdir(parents=True)
    (root / "checkpoints").mkdir(exist_ok=True)
    (path / "checkpoints").symlink_to(root / "checkpoints", target_is_directory=True)
    for events in (ours / "events").glob("rank*.jsonl"):  # begun anew, those of ranks beyond the world, too
        (path / "events" / events.name).touch()
    brought = {}
    for name in segments.files(ours):
        if _laid(name) or name in BROUGHT:
            with contextlib.suppress(FileNotFoundError):  # it went meanwhile
                lay(ours / name, path / name)
                brought[name] = list(segments.stamp(path / name) or ())
    note(path, PULLED, record)
    write_json(draft / KNOWN, brought)
    draft.rename(place)
    return place / ours.name


def root(path: Path) -> Path:
    """The mirror of a copy for ranks."""
    return path.parents[2]


def earlier(path: Path) -> Path:
    """The run's folder as its supervisor has it, of a copy for ranks that began later."""
    return base(root(path))


def base(root: Path) -> Path:
    """The run's folder as its supervisor has it, in a mirror."""
    return next((root / "base").iterdir())


def flush(root: Path) -> None:
    """Return once nothing that was written before is on this node alone, or it was tried in vain for long."""
    ask, until = root / f"{ASK}{secrets.token_hex(4)}", time.monotonic() + bucket.PATIENCE
    ask.touch()
    while ask.exists() and time.monotonic() < until:
        time.sleep(0.02)
    ask.unlink(missing_ok=True)


def lay(source: Path, place: Path) -> None:
    """Copy a file, with its time, so that it appears whole."""
    place.parent.mkdir(parents=True, exist_ok=True)
    draft = place.with_name(f".{place.name}.{os.getpid()}")
    shutil.copy2(source, draft)
    draft.replace(place)


def _laid(name: str) -> bool:
    """Whether a file is one that ranks of all nodes share."""
    return name.split("/")[0] not in (*segments.GROWING, "errors") and name not in (*BROUGHT, "outcome.json")
