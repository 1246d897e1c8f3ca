"""The runs of a grid on their way: launched as there is room, each rendered as it ends, an index at the end."""

from __future__ import annotations

import os
import re
import shlex
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from ...charts.series import read
from ...errors import LabError, needs
from ...files import absolute, write_json
from ...launchers import HERE, devices
from ...metrics import summarised
from ...run.handle import Run, attach
from ...run.launching import launch
from ...store import control
from ...store.folder import ENDED
from .. import Page, report
from ..index import Entry, write
from ..sections import tested
from . import Cell, Grid
from .output import FORMAT, claimed, read_records, writable, write_records

SUMMARY, INDEX = "summary.json", "index.html"
POLL = 0.1  # seconds between looks
STATUS = {"done": 0, "failed": 1, "ended early": 130}
"""How a grid can end, and the exit status of that."""


@dataclass(eq=False)
class Job:
    """A cell of a grid, and how far it is."""

    cell: Cell
    run: Run | None = None
    problem: str = ""
    """Why it was refused, or has no page."""
    page: Future[Page] | None = None
    """Its report, while that is being made."""
    reused: bool = False
    """Whether an earlier call did it."""
    again: bool = False
    """Whether it is to go on once it has stopped, as an earlier call asked it to."""


class Execution:
    """
    One call on a grid; what an earlier call finished in the folder `out` is not done again.

    Lines of progress go to `say`. A folder that can't be written is a LabError.
    """

    def __init__(self, grid: Grid, out: str | os.PathLike[str], say: Callable[[str], None]) -> None:
        needs("a grid's reports", "jinja2", "matplotlib")
        self.grid, self.say = grid, say
        self.out = writable(absolute(out, "out"))
        self.records: dict[str, dict[str, Any]] = {}
        self.interrupts = 0
        self._jobs = [Job(cell) for cell in grid.cells]
        self._todo: deque[Job] = deque()
        self._live: list[Job] = []
        self._room = {"cpu": devices.workers(), "cuda": len(devices.gpus())}

    def end(self) -> None:
        """Have it end early: the first time its runs are stopped and waited for, the second time left to themselves."""
        self.interrupts += 1

    def run(self) -> dict[str, Any]:
        """
        Do what is missing; returns what `summary.json` holds.

        A folder where another call is at work, or that holds what is not ours, is a LabError.
        """
        with claimed(self.out), ThreadPoolExecutor(1) as pool:
            self.records = read_records(self.out)
            for job in self._jobs:
                self._look(job)
            reused = sum(job.reused for job in self._jobs)
            self.say(f"{self.grid.name}: {len(self._jobs)} runs, {reused} of them done before")
            obeyed = 0
            while self._live or any(job.page for job in self._jobs) or (self._todo and not self.interrupts):
                if self.interrupts > obeyed:
                    obeyed = self.interrupts
                    self._stop(pool)
                if self.interrupts > 1:
                    break
                for job in self._jobs:
                    if job in self._live and job.run and job.run.state in ENDED:
                        self._ended(job, job.run, pool)
                    if job.page and job.page.done():
                        self._rendered(job, job.page)
                while self._todo and not self.interrupts and self._fits(self._todo[0].cell):
                    self._begin(self._todo.popleft())
                time.sleep(POLL)
        return self._sum_up()

    def _look(self, job: Job) -> None:
        """Find what an earlier call left of a cell."""
        job.run = run = self._earlier(job.cell)
        state = run.state if run else ""
        if run is None or (state in ENDED and state != "done"):
            self._todo.append(job)
            return
        self._live.append(job)  # one that is done is found so at the first look, and rendered where it has no page
        job.reused = state == "done"
        job.again = not job.reused and control.stopping(run.folder)
        if state == "paused" and not job.again:
            run.resume()

    def _earlier(self, cell: Cell) -> Run | None:
        """The run that an earlier call had for a cell, unless it is gone."""
        record = self.records.get(cell.digest)
        if record is None:
            return None
        try:
            return attach(record["id"])
        except LabError:
            return None

    def _fits(self, cell: Cell) -> bool:
        """
        Whether there is room: ranks up to what one run may have here, so that runs don't take each other's cores.

        Elsewhere all wait in the queue of the place; where that has none, they take turns.
        """
        if self.grid.on != HERE:
            return self.grid.on.queues or not self._live
        others = [job.cell.spec.world for job in self._live if job.cell.device == cell.device]
        return not others or sum(others) + cell.spec.world <= self._room[cell.device]

    def _begin(self, job: Job) -> None:
        """Launch a cell's run, or have the one that ended early go on."""
        job.run = self._earlier(job.cell)  # it may have been deleted meanwhile
        try:
            if job.run:
                job.run.resume(on=self.grid.on)
            else:
                job.run = launch(job.cell.spec, on=self.grid.on)
        except LabError as error:
            job.problem = str(error)
            self._tell(job, "refused", job.problem)
            return
        self._live.append(job)
        self._record(job, id=job.run.id)

    def _ended(self, job: Job, run: Run, pool: ThreadPoolExecutor) -> None:
        """Have a run rendered that has ended, or try again one that an earlier call was still stopping."""
        self._live.remove(job)
        if run.state != "done" and job.again:
            job.again = False
            self._todo.appendleft(job)
            return
        figures = "; ".join(tested(run.summary()) + [str(run.failure)] * bool(run.failure))
        self._tell(job, ("reused, " if job.reused else "") + run.state, figures)
        if self._page(job) is None and not (self.interrupts and run.state == "stopped"):
            file = f"{re.sub(r'[^A-Za-z0-9.]+', '-', job.cell.label).strip('-')[:60]}-{job.cell.digest[:8]}.html"
            job.page = pool.submit(report, run, self.out / file)

    def _rendered(self, job: Job, page: Future[Page]) -> None:
        job.page = None
        try:
            self._record(job, report=page.result().name, ended=job.run and job.run.facts["t"])
        except Exception as error:  # one page must not cost the night
            failed = f"its page failed: {type(error).__name__}: {error}"
            job.problem = str(error) if isinstance(error, LabError) else failed
            self.say(job.problem)

    def _page(self, job: Job) -> str | None:
        """The file that shows a run as it ended."""
        record = self.records.get(job.cell.digest, {})
        name = record.get("report")
        shown = name and job.run and record["ended"] == job.run.facts["t"] and (self.out / name).exists()
        return name if shown else None

    def _record(self, job: Job, **facts: Any) -> None:
        self.records[job.cell.digest] = self.records.get(job.cell.digest, {}) | facts
        write_records(self.out, self.records)

    def _stop(self, pool: ThreadPoolExecutor) -> None:
        if self.interrupts == 1:
            self.say("Ending early: runs stop at their next step (once more leaves them to themselves) ...")
            for job in self._live:
                if job.run:
                    job.run.stop()
        else:
            pool.shutdown(wait=False, cancel_futures=True)

    def _tell(self, job: Job, state: str, figures: str) -> None:
        place = self._jobs.index(job) + 1
        self.say(f"{place}/{len(self._jobs)}  {job.cell.label}  {state}{f'  {figures}' if figures else ''}")

    def _sum_up(self) -> dict[str, Any]:
        """Write the index and the summary."""
        entries = [self._entry(job) for job in self._jobs]
        good = all(entry.state == "done" and entry.report for entry in entries)
        status = "ended early" if self.interrupts and not good else "done" if good else "failed"
        again = shlex.join(["lepton-lab", "report", "--grid", str(self.grid.path), "--out", str(self.out)])
        write(self.out / INDEX, self.grid.name, entries, again, self.grid.text)
        summary = {
            "format": FORMAT,
            "grid": str(self.grid.path),
            "made": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "status": status,
            "exit": STATUS[status],
            "index": INDEX,
            "runs": [_row(cell, entry) for cell, entry in zip(self.grid.cells, entries, strict=True)],
            "reused": [job.cell.digest for job in self._jobs if job.reused],
        }
        write_json(self.out / SUMMARY, summary)
        return summary

    def _entry(self, job: Job) -> Entry:
        run = job.run
        if run is None:
            return Entry(job.cell.values, "refused" if job.problem else "not run", problem=job.problem)
        problem = job.problem or (str(run.failure) if run.failure else run.remark)
        return Entry(job.cell.values, run.state, run, self._page(job), problem)


def _row(cell: Cell, entry: Entry) -> dict[str, Any]:
    """A run as programs read it."""
    run, summary = entry.run, entry.summary
    names = ("step", "steps", *summarised(run.metrics if run else None), "samples_per_s", "seconds")
    return {
        "digest": cell.digest,
        "values": cell.values,
        "id": run.id if run else None,
        "state": entry.state,
        "report": entry.report,
        "problem": entry.problem,
        **{name: summary.get(name) for name in names},
        "training_seconds": read(run).seconds if run else None,
        "command": run.command if run else None,
        "folder": str(run.folder) if run else None,
    }
