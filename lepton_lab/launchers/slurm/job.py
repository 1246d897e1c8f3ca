"""A run's job as its supervisor sees it: submitted, waiting in Slurm's queue, at work, and gone."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any, NamedTuple

from ...errors import LabError
from . import commands
from .task import Task

WAITING = ("PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD")
AT_WORK = ("RUNNING", "CONFIGURING", "COMPLETING", "SUSPENDED", "STOPPED", "RESIZING", "SIGNALING", "STAGE_OUT")
LAST = 10.0  # seconds for one whose nodes are done to end
LOOKS = (2.0, 30.0)  # seconds until Slurm is asked again: at first, and at most
SIGNAL = 90  # seconds before the end of its time that the job is told
FUTURE = 1000  # times that submitit queues a job again whose time is over


class Standing(NamedTuple):
    """What Slurm says of a job."""

    state: str
    """Such as PENDING, RUNNING or CANCELLED; "" of one that it does not know any more."""
    reason: str = ""


class Job:
    """One job, from its submission on. LabError if Slurm refuses it."""

    def __init__(self, asks: dict[str, Any], task: Task, ranks: int, device: str) -> None:
        self.asks, self.place = asks, Path(task.folder) / "slurm"
        self._job = _submit(asks, self.place, task, ranks, device)
        self.number = str(self._job.job_id)
        self.standing = Standing("PENDING" if asks["cluster"] == "slurm" else "RUNNING")
        self.remark = f"waits in Slurm's queue as job {self.number}" if self.waits else ""
        """Where it is in the queue, as a sentence; "" if it is in none."""
        self._pause, self._due = LOOKS[0], 0.0

    @property
    def waits(self) -> bool:
        """Whether it is in the queue, first or again."""
        return self.standing.state in WAITING

    @property
    def over(self) -> bool:
        """Whether it has ended for good."""
        return self.standing.state not in (*WAITING, *AT_WORK)

    def look(self, now: bool = False) -> None:
        """Ask how it stands, now or where that is due: seldom of one that has waited for long, since many may wait."""
        if not now and time.monotonic() < self._due:
            return
        before, self.standing = self.standing, self._ask()
        self._pause = min(1.5 * self._pause, LOOKS[1]) if before.state == self.standing.state else LOOKS[0]
        self._due = time.monotonic() + (self._pause if self.asks["cluster"] == "slurm" else 0.0)
        self.remark = self._remark() if self.waits else ""

    def _remark(self) -> str:
        reason = f" ({self.standing.reason})" if self.standing.reason not in ("", "None") else ""
        return f"waits in Slurm's queue as job {self.number}{self._position()}{reason}"

    def said(self) -> str:
        """The last line of its logs; "" where there is none."""
        for path in sorted(self.place.glob(f"{self.number}_*_log.err")):
            lines = path.read_text(errors="replace").splitlines()
            if words := [line.strip() for line in lines if line.strip() and "submitit " not in line]:
                return words[-1]
        return ""

    def end(self, patience: float = LAST) -> None:
        """Have it end; one at work has some seconds to do so by itself."""
        until = time.monotonic() + patience
        self.look(now=True)
        while time.monotonic() < until and not self.over and not self.waits:
            time.sleep(0.5)
            self.look(now=True)
        if not self.over:
            self._job.cancel(check=False)
            self.standing = Standing("ENDED")

    def _ask(self) -> Standing:
        if self.asks["cluster"] == "local":
            return Standing("RUNNING" if not self._job.done() else "COMPLETED")
        answer = commands.said("scontrol", "show", "job", self.number, "--oneliner")
        if answer is None:
            return self.standing  # the controller may be away for a moment
        state, reason = (re.search(rf"\b{name}=(\S+)", answer) for name in ("JobState", "Reason"))
        return Standing(state[1], reason[1] if reason else "") if state else Standing("")

    def _position(self) -> str:
        """Its place among those that wait in the partition, by priority."""
        partition = commands.within(self.asks["partition"])
        answer = commands.said("squeue", "-h", "-t", "PD", "-S", "-p,i", "-o", "%i", *partition)
        waiting = (answer or "").split()
        if self.number not in waiting:
            return ""
        return f", place {waiting.index(self.number) + 1} of {len(waiting)}"


def _submit(asks: dict[str, Any], place: Path, task: Task, ranks: int, device: str) -> Any:
    """The job as submitit has it."""
    import submitit
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    executor = submitit.AutoExecutor(folder=place, cluster=asks["cluster"], slurm_max_num_timeout=FUTURE)
    if asks["cluster"] == "local":
        gpus = ranks if device == "cuda" else 0
        executor.update_parameters(timeout_min=asks["time"], tasks_per_node=asks["nodes"], gpus_per_node=gpus)
    else:
        options = {"requeue": True, "chdir": str(place), **asks["options"]}
        wanted = {f"slurm_{name}": value for name, value in commands.asked(asks, ranks, device).items()}
        wanted |= {"slurm_setup": [*asks["setup"]], "slurm_signal_delay_s": min(SIGNAL, 15 * asks["time"])}
        executor.update_parameters(name="lepton-lab", slurm_additional_parameters=options, **wanted)
    try:
        return executor.submit(task)
    except (FailedJobError, FailedSubmissionError) as error:
        raise LabError(f"Slurm does not take the job: {commands.sentence(str(error))}") from None
