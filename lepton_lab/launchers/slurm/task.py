"""What a job runs on each of its nodes, as submitit calls it there."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...store import control
from ...store.folder import RunFolder
from ..torchrun import node

SAVED = 60.0  # seconds that ranks have to save; Slurm ends the job 90 s after it said so


@dataclass(frozen=True)
class Task:
    """
    A node's part in a run's life; submitit pickles it.

    Attributes
    ----------
    turn
        How often the job was queued again by submitit.
    """

    folder: str
    life: str
    turn: int = 0

    def __call__(self) -> int:
        """Be a node until the run has ended; an end before that is to be one of the job, too."""
        job = os.environ.get("SLURM_JOB_ID") or os.environ["SUBMITIT_LOCAL_JOB_ID"]
        turn = f"-{job}.{os.environ.get('SLURM_RESTART_COUNT', 0)}.{self.turn}"
        if code := node.attached(self.folder, self.life, turn):
            sys.exit(code)
        return 0

    def checkpoint(self) -> Any:
        """Have the ranks save, since Slurm is about to end the job: called on USR2, on the first node."""
        from submitit.helpers import DelayedSubmission

        folder = RunFolder(Path(self.folder))
        before = folder.checkpoints()
        control.send(folder.path, "checkpoint")
        until = time.monotonic() + SAVED
        while folder.checkpoints() == before and folder.facts["state"] in ("running", "paused"):
            if time.monotonic() > until:
                break
            time.sleep(0.05)
        return DelayedSubmission(replace(self, turn=self.turn + 1))
