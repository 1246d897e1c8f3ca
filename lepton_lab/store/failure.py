"""Why a run failed, and whether it can only fail so again."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

BUGS = ("AssertionError", "AttributeError", "IndexError", "KeyError", "NameError", "TypeError", "ValueError")
WANT = re.compile(
    r"memory|alloc|OSError|Connection|No space|timed? ?out|FileNotFoundError|No such file|PermissionError|"
    r"ModuleNotFoundError|No module named",
    re.IGNORECASE,
)
"""Words of a failure for want of something of the machine, which may be there another time."""


@dataclass(frozen=True)
class Failure:
    """Why a run failed: the first rank that did, not a victim of it."""

    rank: int
    """Rank that failed first, or -1 if the supervisor could not start."""
    type: str
    """Name of the exception, or of the signal that killed the rank."""
    message: str
    where: str = ""
    """Cell or file, and line, of the user's code nearest to the error."""
    step: int | None = None
    """Optimizer steps that the failing rank had done."""
    checkpoint: int | None = None
    """Step of the last good checkpoint, from which `run.resume()` goes on."""
    others: dict[str, int] = field(default_factory=dict)
    """The other ranks' last step, by rank."""
    waits: dict[str, str] = field(default_factory=dict)
    """The operation that other ranks waited in, by rank, where it is known."""
    traceback: str = ""

    def __str__(self) -> str:
        who = f"rank {self.rank}" if self.rank >= 0 else "the supervisor"
        parts = [f"{who}: {self.type}: {self.message}"]
        if self.where:
            parts.append(f"at {self.where}")
        if self.step is not None:
            parts.append(f"after step {self.step}")
        if self.others:
            parts.append(f"other ranks: {self.where_others()}")
        if self.checkpoint is not None:
            parts.append(f"last good checkpoint: step {self.checkpoint}")
        return "; ".join(parts)

    @property
    def certain(self) -> bool:
        """Whether going on can only fail the same way: it failed before its first step, not for want of something."""
        if self.type == "SpecError":
            return True
        wants = WANT.search(f"{self.type} {self.message}")
        return not self.step and self.checkpoint is None and not wants and bool(self.where or self.type in BUGS)

    def where_others(self) -> str:
        """The step that each other rank had come to, and what it waited in."""
        waited = {rank: f" in {what}" for rank, what in self.waits.items()}
        return ", ".join(f"rank {rank} at step {step}{waited.get(rank, '')}" for rank, step in self.others.items())
