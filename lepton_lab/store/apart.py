"""A run's folder as ranks have it on a machine that shares no disk with the others, but the run's store alone."""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from .board import Board
from .folder import RunFolder
from .keeping import named
from .objects import link, mirror, saved
from .objects.bucket import Bucket, patiently

SAVED = "saved"  # on the board: prefixes of the checkpoints that count, by name; rank 0 alone changes it

T = TypeVar("T")


class ApartFolder(RunFolder):
    """
    Read and write a node's copy of a run's folder, which its node sends to the supervisor bit by bit.

    Facts go there as what was said, since others say some, too. Checkpoints go to the store at once: each node puts
    what its ranks hold under one prefix, and rank 0 commits it when all is there.

    Parameters
    ----------
    path
        The copy, which ranks of the node share.
    world, number
        Ranks that there are, and which of them this one is.
    node, nodes
        Which of the nodes that take part this is, and how many they are.
    first
        Whether this rank is the first of its node.
    board
        By which ranks of all nodes tell each other.
    """

    def __init__(
        self, path: Path, board: Board, *, world: int, number: int, node: int, nodes: int, first: bool
    ) -> None:
        super().__init__(path, world)
        self.board: Board = board
        self.number, self.node, self.nodes, self.first = number, node, nodes, first
        self.prefix = f"runs/{self.id}"
        self._saves, self._known = 0, dict[str, str]()
        self.attempt: int = self.facts["attempt"]

    @cached_property
    def bucket(self) -> Bucket:
        """The run's store."""
        address = link.address(self.path)
        assert address is not None, "its node brought it down from there"
        return Bucket(address)

    def _patiently(self, do: Callable[[Bucket], T]) -> T:
        with self.board.working():
            return patiently(self.bucket.address, lambda: do(self.bucket))

    def _end(self, rank: int, size: int) -> bytes:
        """The end of a rank's events, which may be of before this beginning."""
        return super()._end(rank, size) or RunFolder(mirror.earlier(self.path))._end(rank, size)

    def set_state(self, state: str, **facts: Any) -> None:
        """Write the state, keeping facts known before."""
        super().set_state(state, **facts)
        self._say(state, facts)

    def note(self, **facts: Any) -> None:
        """Write facts beside the state, which stays."""
        super().note(**facts)
        self._say(None, facts)

    def _say(self, state: str | None, facts: dict[str, Any]) -> None:
        with (self.path / "facts" / f"{self.number}.jsonl").open("ab", buffering=0) as file:
            file.write((json.dumps([state, facts]) + "\n").encode())

    def checkpoints(self) -> list[int]:
        """Steps of the checkpoints that count, in order."""
        self._known = self._saved()
        return sorted(int(name.split("-")[1]) for name in self._known)

    def checkpoint(self, step: int) -> Path:
        """Folder of a checkpoint that counts, or did when this rank was last told; fetched when it is asked for."""
        name, place = named(step), self.path / "checkpoints"
        prefix = self._known.get(name) or self._saved()[name]
        with (place / ".lock").open("w") as alone:  # one rank of the node brings it for all
            fcntl.flock(alone, fcntl.LOCK_EX)
            self._patiently(lambda bucket: saved.bring(bucket, self.path, name, prefix))
        return place / name

    def clears(self, rank: int) -> bool:
        """Whether a rank is the one that makes the folder of a draft which it shares with others."""
        return self.first

    def commit(self, step: int, rank: int) -> None:
        """Put what this node has of a draft on the store, and wait until rank 0 has committed all of it."""
        self._saves += 1
        save = f"save{self._saves}"
        if rank == 0:
            self.board.write(save, saved.fresh(named(step), self.attempt))
        prefix = self.board.read(save)
        if self.first:
            draft = self.draft(step)
            sizes = self._patiently(lambda bucket: saved.put(bucket, f"{self.prefix}/{prefix}", draft))
            shutil.rmtree(draft, ignore_errors=True)
            with self.board.working():
                mirror.flush(mirror.root(self.path))  # or steps would be missing that nobody does again
            self.board.write(f"{save}.{self.node}", json.dumps(sizes))
        if rank == 0:
            sizes = {}
            for node in range(self.nodes):
                sizes |= json.loads(self.board.read(f"{save}.{node}"))
            self._patiently(lambda bucket: saved.commit(bucket, self.prefix, prefix, sizes))
            there = self._saved() | {named(step): prefix}
            self.board.write(SAVED, json.dumps(there))
            self._patiently(lambda bucket: saved.sweep(bucket, self.prefix, there.values(), self.attempt))
            self.board.write(f"{save}.done", "")
        self.board.read(f"{save}.done")
        self.board.count(f"{save}.read")
        if rank == 0:  # whose process may end now, and with it what the others read
            self.board.wait(lambda: self.board.count(f"{save}.read", 0) == self.world, save)
        if self.first:
            for path in (self.path / "checkpoints").glob("step-*"):  # brought for a beginning that is over
                shutil.rmtree(path, ignore_errors=True)

    def discard(self, steps: list[int]) -> None:
        """Count checkpoints no more; they are removed when the next is saved, since the others don't wait for that."""
        names = [named(step) for step in steps]
        there = {name: prefix for name, prefix in self._saved().items() if name not in names}
        self.board.write(SAVED, json.dumps(there))

    def distrust(self, step: int) -> None:
        """Count a checkpoint no more."""
        self.discard([step])

    def _saved(self) -> dict[str, str]:
        there: dict[str, str] = json.loads(self.board.read(SAVED))
        return there
