"""Checkpoints in a run's folder: which there are, where each lies, how one is committed and how it goes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from .objects import link, saved
from .objects.saved import MARKER


class Kept:
    """The checkpoints of a run."""

    path: Path

    def checkpoints(self) -> list[int]:
        """Steps of the complete checkpoints, here or on a store, in order; one without its marker was cut off."""
        names = {marker.parent.name for marker in saved.markers(self.path)}
        return sorted(int(name.split("-")[1]) for name in names | link.elsewhere(self.path).keys())

    def checkpoint(self, step: int) -> Path:
        """Folder of the checkpoint of a step; one that is on a store alone is fetched when it is asked for first."""
        saved.fetch(self.path, named(step))
        return self.path / "checkpoints" / named(step)

    def draft(self, step: int) -> Path:
        """Where ranks write the checkpoint of a step, before it is one."""
        return self.path / "checkpoints" / f".{named(step)}"

    def clears(self, rank: int) -> bool:
        """Whether a rank is the one that makes the folder of a draft which it shares with others."""
        return rank == 0

    def commit(self, step: int, rank: int) -> None:
        """Make a draft that is whole the checkpoint of its step; every rank calls it."""
        if rank:
            return
        draft, path = self.draft(step), self.path / "checkpoints" / named(step)
        for place in (*(part for part in draft.iterdir() if part.is_dir()), draft):
            _sync(place)  # or a crash of the machine could leave the marker and not what it stands for
        (draft / MARKER).touch()
        old = path.with_name(f".{path.name}.old")
        if path.exists():  # of the same step, before something was steered
            path.rename(old)
        draft.rename(path)
        _sync(path.parent)
        shutil.rmtree(old, ignore_errors=True)

    def discard(self, steps: list[int]) -> None:
        """Remove checkpoints, each one's marker first: a half-removed one must not be taken for whole."""
        for path in (self.path / "checkpoints" / named(step) for step in steps):
            (path / MARKER).unlink(missing_ok=True)
            shutil.rmtree(path, ignore_errors=True)

    def distrust(self, step: int) -> None:
        """Count a checkpoint no more; it stays on disk, for whoever wants to look."""
        path = self.checkpoint(step)
        (path / MARKER).rename(path / "unreadable")


def named(step: int) -> str:
    """The name of the folder of a step's checkpoint."""
    return f"step-{step:08d}"


def _sync(path: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
