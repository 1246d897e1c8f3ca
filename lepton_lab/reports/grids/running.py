"""The runs of a grid on their way: launched as there is room, each rendered as it ends, an index at the end."""

from __future__ import annotations

import os
import re
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ...charts import read
from ...errors import LabError, needs
from ...files import absolute, write_json
from ...launchers import devices
from ...metrics import summarised
from ...run.handle import Run, attach
from ...run.launching import launch
from ...store import control
from ...store.folder import ENDED
from .. import report
from ..index import Entry, write
from ..sections import tested
from . import Cell, Grid
from .output import FORMAT, claimed, read_records, writable, write_records

SUMMARY, INDEX = "summary.json", "index.html"
POLL = 0.1  # seconds between looks
STATUS = {"done": 0, "failed": 1, "ended early": 130}
"""How a grid can end, and the exit status of that."""


class Execution:
    """
    One call on a grid and an output folder; what an earlier call finished there is not done again.

    Parameters
    ----------
    grid
        The specs.
    out
        Folder of the pages; it is made where it is missing.
    say
        Takes a line of progress.

    Raises
    ------
    LabError
        If the folder can't be written.
    """

    def __init__(self, grid: Grid, out: str | os.PathLike[str], say: Callable[[str], None]) -> None:
        needs("a grid's reports", "jinja2", "matplotlib")
        self.grid, self.say = grid, say
        self.out = writable(absolute(out, "out"))
        self.records: dict[str, dict[str, Any]] = {}
        self.asked = 0
        self._runs: dict[str, Run] = {}  # by digest, as all below
        self._problems: dict[str, str] = {}
        self._pages: dict[str, Future[Path]] = {}
        self._again: set[str] = set()
        self._reused: list[str] = []
        self._todo: deque[Cell] = deque()
        self._live: list[Cell] = []
        self._room = {"cpu": devices.workers(), "cuda": len(devices.gpus())}

    def end(self) -> None:
        """Have it end early: the first time its runs are stopped and waited for, the second time left to themselves."""
        self.asked += 1

    def run(self) -> dict[str, Any]:
        """
        Do what is missing; returns what `summary.json` holds.

        Raises
        ------
        LabError
            If another call is at work in the folder, or it holds what is not ours.
        """
        with claimed(self.out), ThreadPoolExecutor(1) as pool:
            self.records = read_records(self.out)
            for cell in self.grid.cells:
                self._look(cell)
            self.say(f"{self.grid.name}: {len(self.grid.cells)} runs, {len(self._reused)} of them done before")
            told = 0
            while self._live or self._pages or (self._todo and not self.asked):
                if self.asked > told:
                    told = self.asked
                    self._stop(pool)
                if self.asked > 1:
                    break
                for cell in [cell for cell in self._live if self._runs[cell.digest].state in ENDED]:
                    self._ended(cell, pool)
                for digest in [digest for digest, page in self._pages.items() if page.done()]:
                    self._rendered(digest, self._pages.pop(digest))
                while self._todo and not self.asked and self._fits(self._todo[0]):
                    self._begin(self._todo.popleft())
                time.sleep(POLL)
        return self._sum_up()

    def _look(self, cell: Cell) -> None:
        """Find what an earlier call left of a cell."""
        run = self._known(cell)
        if run is None:
            self._todo.append(cell)
            return
        self._runs[cell.digest] = run
        state = run.state
        if state in ENDED and state != "done":
            self._todo.append(cell)
            return
        self._live.append(cell)  # one that is done is found so at the first look, and rendered where it has no page
        if state == "done":
            self._reused.append(cell.digest)
        elif control.stopping(run.folder):
            self._again.add(cell.digest)
        elif state == "paused":
            run.resume()

    def _known(self, cell: Cell) -> Run | None:
        """The run that an earlier call had for a cell, unless it is gone."""
        record = self.records.get(cell.digest)
        if record is None:
            return None
        try:
            return attach(record["id"])
        except LabError:
            return None

    def _fits(self, cell: Cell) -> bool:
        """Whether there is room: ranks up to what one run may have here, so that runs don't take each other's cores."""
        others = [other.spec.world for other in self._live if other.device == cell.device]
        return not others or sum(others) + cell.spec.world <= self._room[cell.device]

    def _begin(self, cell: Cell) -> None:
        """Launch a cell's run, or have the one that ended early go on."""
        run = self._known(cell)
        try:
            if run:
                run.resume()
            else:
                run = launch(cell.spec)
        except LabError as error:
            self._problems[cell.digest] = str(error)
            self._told(cell, "refused", str(error))
            return
        self._runs[cell.digest] = run
        self._live.append(cell)
        self._record(cell.digest, id=run.id)

    def _ended(self, cell: Cell, pool: ThreadPoolExecutor) -> None:
        """Have a run rendered that has ended, or try again one that an earlier call was still stopping."""
        run = self._runs[cell.digest]
        self._live.remove(cell)
        if run.state != "done" and cell.digest in self._again:
            self._again.remove(cell.digest)
            self._todo.appendleft(cell)
            return
        before = "reused, " if cell.digest in self._reused else ""
        self._told(cell, before + run.state, _figures(run))
        if self._page(cell.digest) is None and not (self.asked and run.state == "stopped"):
            self._pages[cell.digest] = pool.submit(report, run, self.out / self._file(cell))

    def _rendered(self, digest: str, page: Future[Path]) -> None:
        try:
            self._record(digest, report=page.result().name, ended=self._runs[digest].facts["t"])
        except Exception as error:  # one page must not cost the night
            told = str(error) if isinstance(error, LabError) else f"its page failed: {type(error).__name__}: {error}"
            self._problems[digest] = told
            self.say(told)

    def _page(self, digest: str) -> str | None:
        """The file that shows a run as it ended."""
        record, run = self.records.get(digest, {}), self._runs.get(digest)
        name = record.get("report")
        shown = name and run and record["ended"] == run.facts["t"] and (self.out / name).exists()
        return name if shown else None

    def _file(self, cell: Cell) -> str:
        return f"{re.sub(r'[^A-Za-z0-9.]+', '-', cell.label).strip('-')[:60]}-{cell.digest[:8]}.html"

    def _record(self, digest: str, **facts: Any) -> None:
        self.records[digest] = self.records.get(digest, {}) | facts
        write_records(self.out, self.records)

    def _stop(self, pool: ThreadPoolExecutor) -> None:
        if self.asked == 1:
            self.say("Ending early: runs stop at their next step (once more leaves them to themselves) ...")
            for cell in self._live:
                self._runs[cell.digest].stop()
        else:
            pool.shutdown(wait=False, cancel_futures=True)

    def _told(self, cell: Cell, state: str, figures: str) -> None:
        place = self.grid.cells.index(cell) + 1
        self.say(f"{place}/{len(self.grid.cells)}  {cell.label}  {state}{f'  {figures}' if figures else ''}")

    def _sum_up(self) -> dict[str, Any]:
        """Write the index and the summary."""
        entries = [self._entry(cell) for cell in self.grid.cells]
        good = all(entry.state == "done" and entry.report for entry in entries)
        status = "ended early" if self.asked and not good else "done" if good else "failed"
        write(self.out / INDEX, self.grid.name, entries, self.command, self.grid.text)
        summary = {
            "format": FORMAT,
            "grid": str(self.grid.path),
            "made": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "status": status,
            "exit": STATUS[status],
            "index": INDEX,
            "runs": [_row(cell, entry) for cell, entry in zip(self.grid.cells, entries, strict=True)],
            "reused": self._reused,
        }
        write_json(self.out / SUMMARY, summary)
        return summary

    @property
    def command(self) -> str:
        """The command line that does what is missing."""
        import shlex

        return shlex.join(["lepton-lab", "report", "--grid", str(self.grid.path), "--out", str(self.out)])

    def _entry(self, cell: Cell) -> Entry:
        run, problem = self._runs.get(cell.digest), self._problems.get(cell.digest, "")
        if run is None:
            return Entry(cell.values, "refused" if problem else "not run", problem=problem)
        problem = problem or (str(run.failure) if run.failure else run.remark)
        return Entry(cell.values, run.state, run, self._page(cell.digest), problem)


def _row(cell: Cell, entry: Entry) -> dict[str, Any]:
    """A run as programs read it."""
    told = entry.run.summary() if entry.run else {}
    names = ("steps", *summarised(), "samples_per_s", "seconds")
    return {
        "digest": cell.digest,
        "values": cell.values,
        "id": entry.run.id if entry.run else None,
        "state": entry.state,
        "report": entry.report,
        "problem": entry.problem,
        "step": told.get("step"),
        **{name: told.get(name) for name in names},
        "training_seconds": read(entry.run).seconds if entry.run else None,
        "command": entry.run.command if entry.run else None,
        "folder": str(entry.run.folder) if entry.run else None,
    }


def _figures(run: Run) -> str:
    return "; ".join(tested(run.summary()) + [str(run.failure)] * bool(run.failure))
