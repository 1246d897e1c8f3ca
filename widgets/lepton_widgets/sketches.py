"""Runs of a Learner: curves by epoch, what the page is told of them, and which of them stay on the shelf."""

from __future__ import annotations

import shutil
import time
from typing import Any

from lepton_lab import Run
from lepton_lab.files import home
from lepton_lab.metrics import judges
from lepton_lab.spec import Spec
from lepton_lab.store.folder import ENDED, RunFolder

from .feed import Feed

MARK = "learner"
"""An empty file in the folders of runs that a Learner made, and may remove."""
PATIENCE = 10.0
"""Seconds that a run has to end when another is to take its place."""
BRIEF = {"lr": "rate", "batch_size": "batch", "weight_decay": "L2", "optimizer": ""}
"""Names of fields in a label, where they differ from the field's."""


class Sketch:
    """One run of a Learner.

    Parameters
    ----------
    run : Run
    asked : Spec
        What the sliders showed.
    values : dict
        The same, of each slider.
    place : int
        How many came before: the place of its colour.
    """

    def __init__(self, run: Run, asked: Spec, values: dict[str, Any], place: int) -> None:
        self.run, self.asked, self.values, self.place = run, asked, values, place
        self._feed = Feed([run])
        self.story = self._feed.stories[0]
        self._metrics = run.metrics
        self.state = "starting"
        self._failure = ""

    def poll(self) -> bool:
        """Read what is new; False once it has ended and nothing is left."""
        alive = self._feed.poll()
        self.state = self.run.state
        if self.state == "failed" and (why := self.run.failure):
            self._failure = "diverged" if why.type == "NonFinite" else f"{why.type}: {why.message}"
        return alive

    def head(self, label: str) -> dict[str, Any]:
        """Everything but the curves, as JSON."""
        figures = self.story.figures
        judged = ((name, figures[key]) for name in judges(self._metrics) if (key := f"val_{name}") in figures)
        return {
            "id": self.run.id,
            "label": label,
            "place": self.place,
            "state": self.state,
            "figure": next(judged, None),
            "failure": self._failure,
            "epochs": self.run.spec.epochs,
        }

    def end(self) -> None:
        """Stop it, if it still goes, and wait until it is gone, or it would take cores from the next."""
        folder, deadline = self.run.store, time.monotonic() + PATIENCE
        if folder.state not in ENDED:
            self.run.stop()
        while folder.alive and time.monotonic() < deadline:
            time.sleep(0.01)


def adopt(run: Run) -> None:
    """Mark a run as a Learner's, which may be removed."""
    (run.folder / MARK).touch()


def tidy(most: int) -> None:
    """Remove what Learners made, but for the newest ``most``; one that still goes stays."""
    made = sorted((home() / "runs").glob(f"[!.]*/{MARK}"), key=lambda mark: mark.stat().st_mtime)
    for mark in made[:-most]:
        if RunFolder(mark.parent).state in ENDED:
            shutil.rmtree(mark.parent, ignore_errors=True)


def labels(sketches: list[Sketch]) -> list[str]:
    """What sets each apart from the others, in a few words: "rate 0.1, batch 64"."""
    first = sketches[0].values if sketches else {}
    fields = [field for field in first if any(sketch.values.get(field) != first[field] for sketch in sketches)]
    return [", ".join(worded(field, sketch.values.get(field)) for field in fields or ["lr"]) for sketch in sketches]


def worded(field: str, value: Any) -> str:
    """A field and its value in words."""
    return f"{BRIEF.get(field, field)} {text(value)}".strip()


def text(value: Any) -> str:
    """A value as people write it, of a float at most 4 significant digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
