"""The runs that a shelf lists, read again as they change, and the metrics that they have."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, NamedTuple

from lepton_lab import Run
from lepton_lab.errors import LabError
from lepton_lab.metrics import MINIMISED, Known, joined, known, summarised
from lepton_lab.store.folder import ENDED, LABELS, RunFolder
from lepton_lab.store.nodes import named, nodes

AT_ONCE = 40
"""Runs read in one look; the rest follow in the next, so that a long shelf shows its newest runs at once."""
MOST = 4
"""Metrics that have columns before someone chooses."""


class Told(NamedTuple):
    """Metrics that a run has told of."""

    has: set[str]
    """Those with a figure."""
    asked: list[str]
    """Those that were asked for by name, or are the user's own."""
    charts: list[str]
    """What a view of it draws first."""


class Catalogue:
    """Rows of the runs under a folder, newest first; a run that has ended is read only once.

    Parameters
    ----------
    root : Path
        Folder of run folders.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.rows: dict[str, dict[str, Any]] = {}
        self.more = True
        """Whether the last look left runs unread."""
        self.metrics: Known = known()
        """Those of all runs read by now."""
        self._told: dict[str, Told] = {}
        self._runs: dict[str, Run | None] = {}
        self._ended: dict[str, int] = {}  # id -> time of its state file, once it has ended

    def look(self, limit: int = AT_ONCE) -> list[dict[str, Any]]:
        """Read what has changed, at most ``limit`` runs; returns the rows that differ from before."""
        names = sorted((path.name for path in self.root.glob("[!.]*")), reverse=True) if self.root.is_dir() else []
        for name in self.rows.keys() - set(names):
            self.rows.pop(name)
        changed, unread = [], 0
        for name in names:
            stamp = self._stamp(name)
            if stamp is None or self._ended.get(name) == stamp:
                continue
            if name not in self.rows and len(changed) >= limit:
                unread += 1
                continue
            row = self._read(name)
            if row is not None and row["state"] in ENDED:
                self._ended[name] = stamp
            if row is not None and row != self.rows.get(name):
                self.rows[name] = row
                changed.append(row)
        self.more = unread > 0
        return changed

    def leading(self) -> list[str]:
        """Metrics with columns before someone chooses: those of all runs, those asked for, and what tells most."""
        told = [self._told[name] for name in sorted(self.rows, reverse=True) if not self.rows[name]["archived"]]
        figured = [one.has for one in told if one.has]
        common = set.intersection(*figured) if figured else set()
        asked = (name for one in told for name in one.asked)
        charts = (name for one in told for name in one.charts)
        wanted = dict.fromkeys([MINIMISED, *(name for name in self.metrics if name in common), *asked, *charts])
        return [name for name in wanted if name in self.metrics][:MOST]

    def run(self, name: str) -> Run:
        """The run of a row."""
        run = self._runs.get(name)
        if run is None:
            run = self._runs[name] = Run(RunFolder(self.root / name))
        return run

    def _stamp(self, name: str) -> int | None:
        """When its state or its labels were written last."""
        try:
            stamp = (self.root / name / "state.json").stat().st_mtime_ns
            with contextlib.suppress(FileNotFoundError):
                stamp = max(stamp, (self.root / name / LABELS).stat().st_mtime_ns)
        except OSError:
            return None
        return stamp

    def _read(self, name: str) -> dict[str, Any] | None:
        try:
            run = self.run(name)
            row, metrics = run.summary() | {"standing": _standing(run)}, run.metrics
            has = {figure.name for key, figure in summarised(metrics).items() if row.get(key) is not None}
            self._told[name] = Told(has, run.asked, run.charts)
            self.metrics = joined([self.metrics, metrics])
            return row
        except (LabError, OSError, ValueError, KeyError):
            return None  # not a run, or one of a newer version


def _standing(run: Run) -> str:
    """What a live run waits for, and its machines where it is on others; as its folder tells, which is looked at."""
    facts = run.facts
    if run.state in ENDED:
        return ""
    return "; ".join(text for text in (facts.get("reason"), named(nodes(facts, {}))) if text)
