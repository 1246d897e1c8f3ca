"""The contract of a launcher; strategies, engine and views don't know which one started them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ..store.folder import RunFolder


@dataclass(frozen=True)
class Ready:
    """A run that may start."""

    folder: RunFolder
    lock: int
    """File descriptor that holds the lock on its folder; the launcher's from its start on."""
    device: str
    """"cuda" or "cpu", as it was chosen for it."""


class Launcher(Protocol):
    """What a launcher does, each a function of its module."""

    def start(self, *runs: Ready) -> None:
        """Have runs done, one after the other; returns without waiting."""

    def state(self, folder: RunFolder) -> str:
        """How a run stands: one of `store.folder`'s LIVE or ENDED."""

    def signal(self, folder: Path, command: str, **values: Any) -> None:
        """Tell a run's ranks to stop, pause, resume, checkpoint or set values; returns without waiting."""

    def collect(self) -> None:
        """Clear away what processes of ours that have ended left behind."""
