"""Runs of a Learner: curves by epoch, what the page is told of them, and which of them stay on the shelf."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable
from typing import Any

from lepton_lab import Run
from lepton_lab.files import home
from lepton_lab.spec import Spec
from lepton_lab.store.folder import ENDED, RunFolder

from .curves import Curves, Row
from .feed import Feed

MARK = "learner"
"""An empty file in the folders of runs that a Learner made, and may remove."""
PATIENCE = 10.0
"""Seconds that a run has to end when another is to take its place."""
BRIEF = {"lr": "rate", "batch_size": "batch", "weight_decay": "L2", "optimizer": ""}
"""Names of fields in a label, where they differ from the field's."""


class Passes(Curves):
    """Curves over passes through the training data, so that batches of all sizes end at the same place."""

    def __init__(self, world: int, epochs: int) -> None:
        super().__init__(world)
        self._epochs, self._steps = epochs, epochs

    def add(self, rows: Iterable[Row]) -> None:
        """As of Curves, of rows whose steps become epochs."""
        for row in rows:
            self._steps = row.get("steps") or self._steps
            super().add([{**row, "step": row["step"] * self._epochs / self._steps} if "step" in row else row])


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
        self._feed = Feed([run], lambda world: Passes(world, run.spec.epochs))
        self.curves = self._feed.curves[0]
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
        figures = self._feed.statuses[0].figures
        known = {"accuracy": figures.get("val_accuracy"), "loss": figures.get("val_loss"), "failure": self._failure}
        told = {"id": self.run.id, "label": label, "place": self.place, "state": self.state}
        return {**told, **known, "epochs": self.run.spec.epochs}

    def end(self) -> None:
        """Stop it, if it still goes, and wait until it is gone, or it would take cores from the next."""
        folder, deadline = RunFolder(self.run.folder), time.monotonic() + PATIENCE
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
    """A value as people write it."""
    return f"{value:g}" if isinstance(value, float) else str(value)
