"""What the nodes of a run send that share no disk with its supervisor, laid into the run's folder there."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
from pathlib import Path, PurePosixPath
from typing import Any

from ...errors import LabError
from ...files import read_json, remote, write_json
from ..folder import RunFolder
from . import saved, segments
from .bucket import Bucket, patiently, refusal
from .link import STORED, apart, carried, note
from .mirror import BROUGHT, sent_to

INTERVAL = 0.1  # seconds between looks
ARRIVED = "arrived.json"  # in the run's folder; by its name it goes up before the events whose place it tells
AGAIN = 2.0  # seconds until a store that could not be reached is tried again


class Gathering:
    """
    Takes in, on a thread of its own, what nodes send of the present beginning of their ranks, and no other.

    A node that was cut off may send more of an earlier one, which others have gone on without.

    Parameters
    ----------
    folder
        The run's.
    address
        Of its store.
    life
        What the nodes call the run's present life.
    """

    def __init__(self, folder: RunFolder, address: str, life: str) -> None:
        self.folder, self.bucket, self.life = folder, Bucket(address), life
        self._sources: list[_Source] = []
        self.stale = False  # whether a checkpoint was told of since the store was last asked for those there are
        self._lock, self._over = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="lepton-gather", daemon=True)

    def start(self) -> None:
        """Begin: what checkpoints there are is from now on for the nodes to say, by what they put on the store."""
        patiently(self.bucket.address, self._ready)
        self._thread.start()

    def _ready(self) -> None:
        run, record = f"runs/{self.folder.id}", carried(self.folder.path)
        if record and not apart(self.folder.path):
            ours = [prefix for prefix, _ in record["saved"].values()]
            saved.sweep(self.bucket, run, ours, self.folder.facts.get("attempt", 0))  # so that all there counts
        self.list()
        take_rest(self.folder)  # after it: what led to a checkpoint was sent before

    def begin(self, attempt: int, nodes: int) -> None:
        """Take in what so many nodes send of another beginning, after the last of the one before."""
        with self._lock:
            self._sources = [_Source(self, sent_to(self.folder.id, self.life, attempt, node)) for node in range(nodes)]
            self._keep()

    def drain(self, listing: bool = True) -> None:
        """
        Take in all that was sent by now, and note which checkpoints there are.

        These are asked for first: what led to each was sent before it was committed.

        Raises
        ------
        LabError
            If the store can't be reached.
        """
        try:
            with self._lock:
                if listing and not self.folder.gone:
                    self.list()
                while self._look():
                    pass
        except LabError:
            raise
        except Exception as error:  # of any library that fsspec builds on
            raise LabError(f"what nodes sent can't be read at {refusal(self.bucket.address, error)}") from None

    def close(self, whole: bool = True) -> None:
        """Take in no more; if that was all, remove it from the store."""
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join()
        if whole:
            (self.folder.path / ARRIVED).unlink(missing_ok=True)
            with contextlib.suppress(Exception):  # it costs a little room there
                self.bucket.remove(f"runs/{self.folder.id}/nodes/{self.life}")

    def list(self) -> None:
        """Note which checkpoints are on the store; of those here only such stay as are the same."""
        self.stale = False
        told = saved.committed(self.bucket, f"runs/{self.folder.id}")
        record = {"address": self.bucket.address, "saved": told, "live": True}
        if record != read_json(self.folder.path / STORED):
            note(self.folder.path, STORED, record)
        saved.keep_same(self.folder.path, told)

    def _run(self) -> None:
        pause = INTERVAL
        while not self._over.wait(pause):
            try:
                with self._lock:
                    if self.stale:  # for it, an older one may be gone by now
                        self.list()
                    self._look()
                pause = INTERVAL
            except Exception as error:  # of any library that fsspec builds on; who carries the run says it to views
                print(refusal(self.bucket.address, error), file=sys.stderr, flush=True)
                pause = AGAIN

    def _look(self) -> bool:
        """Take in the next that each node sent; returns whether there was any, of a run that was not deleted."""
        if self.folder.gone:
            return False
        wanted = {f"{source.prefix}/{segments.name(source.next)}": source for source in self._sources}
        found = self.bucket.get(wanted)
        for name, body in found.items():
            wanted[name].take(*segments.unpack(body))
        if found:
            self._keep()
        return bool(found)

    def _keep(self) -> None:
        """Keep how much was taken in, for who goes on with the run where this process is killed."""
        write_json(self.folder.path / ARRIVED, [source.record for source in self._sources], indent=None)


def take_rest(folder: RunFolder) -> None:
    """
    Take in what nodes sent of the last beginning that an earlier life's supervisor, which was killed, did not.

    Raises
    ------
    LabError
        If the store can't be reached.
    """
    records, address = read_json(folder.path / ARRIVED), remote()
    if not records or address is None:
        return
    gathering = Gathering(folder, address, "")
    gathering._sources = [_Source.of(gathering, record) for record in records]
    gathering.drain(listing=False)
    (folder.path / ARRIVED).unlink()
    for record in records:
        with contextlib.suppress(Exception):  # it costs a little room there
            gathering.bucket.remove(str(PurePosixPath(record["prefix"]).parent))


class _Source:
    """What one node sends of one beginning."""

    def __init__(self, gathering: Gathering, prefix: str) -> None:
        self.gathering, self.folder, self.prefix, self.next = gathering, gathering.folder, prefix, 0
        self._begins: dict[str, int] = {}  # by file that grows: where what this node writes begins in ours
        self._said: dict[str, tuple[int, bytes]] = {}  # of facts: where what was not heard yet begins, and that

    @property
    def record(self) -> dict[str, Any]:
        """What `of` makes it from, as JSON takes it."""
        said = {name: [begin, text.decode()] for name, (begin, text) in self._said.items()}
        return {"prefix": self.prefix, "next": self.next, "begins": self._begins, "said": said}

    @classmethod
    def of(cls, gathering: Gathering, record: dict[str, Any]) -> _Source:
        """What a record told."""
        source = cls(gathering, record["prefix"])
        source.next, source._begins = record["next"], record["begins"]
        source._said = {name: (begin, text.encode()) for name, (begin, text) in record["said"].items()}
        return source

    def take(self, about: dict[str, Any], pieces: list[segments.Piece]) -> None:
        """Do what a segment tells."""
        for piece in pieces:
            kind = piece.name.split("/")[0]
            if kind == "facts":
                self._listen(piece)
            elif kind in segments.GROWING:
                self._append(self.folder.path / piece.name, piece)
            elif piece.name not in BROUGHT:
                segments.apply(self.folder.path, {"gone": []}, [piece])
        gone = [name for name in about["gone"] if name.split("/")[0] not in segments.GROWING and name not in BROUGHT]
        segments.apply(self.folder.path, {"gone": gone}, [])
        self.next += 1

    def _append(self, path: Path, piece: segments.Piece) -> None:
        with path.open("a+b") as file:
            if piece.name not in self._begins:
                if (size := file.tell()) and _last(file, size) != b"\n":  # torn, with the node that wrote it
                    file.write(b"\n")
                self._begins[piece.name] = file.tell()
        with path.open("r+b") as file:
            file.seek(self._begins[piece.name] + piece.at)
            file.write(piece.data)

    def _listen(self, piece: segments.Piece) -> None:
        """Hear each line that is whole; of a piece that is taken once more, after a failure, those that remain."""
        begin, text = self._said.get(piece.name, (0, b""))
        at = max(piece.at, begin)
        text = text[: at - begin] + piece.data[at - piece.at :]
        while (end := text.find(b"\n") + 1) > 0:
            self._hear(*json.loads(text[:end]))
            begin, text = begin + end, text[end:]
            self._said[piece.name] = begin, text
        self._said[piece.name] = begin, text

    def _hear(self, state: str | None, facts: dict[str, Any]) -> None:
        if facts.get("checkpoint") is not None:
            self.gathering.list()  # before it is told: who knows of it can have it
            self.gathering.stale = True
        if state is None:
            self.folder.note(**facts)
        else:
            self.folder.set_state(state, **facts)


def _last(file: Any, size: int) -> bytes:
    file.seek(size - 1)
    last: bytes = file.read(1)
    return last


def up(folder: RunFolder) -> int | None:
    """The number of segments on the store by which it has all that a run's folder holds now; None where it has not."""
    record, there = carried(folder.path), segments.stamp(folder.path / segments.LAST)
    if record is None or there is None or record["sent"].get(segments.LAST) != list(there):
        return None
    markers = [] if apart(folder.path) else saved.markers(folder.path)
    if any(record["saved"].get(m.parent.name, [""])[-1] != m.stat().st_mtime_ns for m in markers):
        return None
    return int(record["next"])
