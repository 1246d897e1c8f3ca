"""The supervisor of a run in Slurm's queue: it keeps the rendezvous, and a job as long as it takes."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from ...errors import LabError
from ...host import LOOPBACK
from ...store import control
from ...store.failure import Failure
from ..supervision import End
from ..torchrun.coordinator import FUTILE, Coordination, own_address
from . import commands
from .job import Job
from .task import Task

HOLE = 15.0  # seconds that a node of a job at work may be missing, once all were there


class Queued(Coordination):
    """One run whose nodes are the tasks of a job."""

    def __init__(self, needs: dict[str, Any], lock: int, order: dict[str, Any], safe: bool) -> None:
        super().__init__(needs, lock, order, safe)
        sizes = dict.fromkeys(("least", "most"), needs["launcher"]["nodes"])
        self.asks = {**needs["launcher"], **sizes, "hosts": [], "python": ""}
        self.job: Job | None = None
        self.submitted: Counter[int] = Counter()  # jobs by the step of the last checkpoint
        self.before = 0  # nodes that had come before the job was submitted
        self.whole: float | None = None  # when all nodes of this job were last there

    @property
    def _store(self) -> str:
        return ""  # its nodes share a folder, as Slurm's do

    def start(self, slots: list[str]) -> None:
        """Keep the rendezvous, and submit a job whose tasks come to it."""
        if not self.asks["address"]:
            here = self.asks["cluster"] == "local"
            self.asks["address"] = LOOPBACK[1] if here else own_address(commands.first_node(self.asks["partition"]))
        super().start(slots)
        self._submit()

    def state(self) -> End | None:
        """As of other nodes; Slurm is asked of the job while some are missing."""
        if (end := super().state()) is not None:
            return end
        if self._present.count >= self.asks["nodes"]:
            self.whole = time.monotonic()
        else:
            self._job.look()
            if self._job.waits:
                self.whole = None  # it was queued again, and its nodes are to start anew
            self._tell()
        return None

    def collect(self) -> None:
        """As the contract says, the job included."""
        if self.job is not None and self.job.waits:
            self.job.end()
        super().collect()
        if self.job is not None:
            self.job.end()
            if self.folder.path.exists():
                self.folder.note(job=None)

    @property
    def _job(self) -> Job:
        assert self.job is not None, "asked of a run that has started"
        return self.job

    def _submit(self) -> None:
        """Submit a job. LabError if Slurm refuses it."""
        saved = max(self.folder.checkpoints(), default=0)
        self.submitted[saved] += 1
        self.before, self.whole = self._present.come, None
        task = Task(str(self.folder.path), self.plan.life)
        self.job = Job(self.asks, task, self.plan.ranks, self.plan.device)
        if self.asks["cluster"] == "slurm":
            self.folder.note(job=self.job.number)
        self.log.write("note", text=f"submitted job {self.job.number}")

    def _tell(self) -> None:
        """Have the run's state say whether it waits in the queue, where it may come to again."""
        state = self.folder.facts["state"]
        if self._job.waits and not self._present.count and state != "queued":
            if state == "paused":  # whoever asked for that is still to have it
                control.send(self.folder.path, "pause")
            self.tell("queued", reason=self._job.remark, queue="")
        elif state == "queued" and (self._present.count or not self._job.waits):
            self.tell("starting")

    def _waits(self) -> str | None:
        """Where the job is in the queue, or how many of its nodes are missing."""
        if self._present.count >= self.asks["nodes"]:
            return None
        there = f"{self._present.count} of {self.asks['nodes']} are there"
        return self._job.remark or f"waits for nodes: {there}; job {self._job.number} is {self._job.standing.state}"

    def _lacks(self, seconds: float) -> bool:
        return (self._job.waits and not self._present.count) or super()._lacks(seconds)

    def _end(self) -> End | None:
        if self._job.waits:
            self.progressed = time.monotonic()  # a queue may take days
        return super()._end() or self._gone()

    def _gone(self) -> End | None:
        """How a run ends whose job did so early; else another job is submitted for it."""
        job = self._job
        if self.whole is not None and time.monotonic() > self.whole + HOLE and not job.over:
            self.whole = None
            job.look(now=True)
            if job.standing.state == "RUNNING":
                job.end(0.0)  # a node's part in it is dead, and it would wait for that to its last minute
        if not job.over:
            return None
        if job.standing.state == "CANCELLED":
            return "stopped", {"reason": f"its job {job.number} was cancelled in Slurm"}
        if why := self._futile(job):
            saved = max(self.folder.checkpoints(), default=None)
            return "failed", {"failure": vars(Failure(-1, LabError.__name__, why, checkpoint=saved))}
        self._submit()
        return None

    def _futile(self, job: Job) -> str:
        """Why it makes no sense to submit another job after one that ended; "" where it does."""
        words = f"job {job.number} ended as {job.standing.state or 'one that Slurm does not know'}"
        if self._present.come == self.before:
            said = job.said() or f"it left no log: see whether its nodes have {str(self.folder.path)!r}"
            return f"{words} before a node came: {said}"
        saved = max(self.folder.checkpoints(), default=0)
        if self.submitted[saved] >= FUTILE:
            return f"{words}, as {FUTILE} did without a checkpoint after step {saved}; the logs have the cause"
        return ""
