"""Progress of a run on a terminal: a line an epoch, and a live bar where there is a terminal to redraw."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from ..charts import number
from ..compressors.chain import epochs
from ..folders import ENDED

if TYPE_CHECKING:
    from ..run import Run

POLL = 0.1  # seconds between looks at the events
COLUMNS = ["epoch", "step", "train loss", "accuracy", "val loss", "accuracy", "samples/s"]
ATTACH = 'lepton-lab show {id}, or from Python: lepton_lab.attach("{id}")'


class Epochs:
    """
    Events in, a line for each epoch out.

    A line waits for its epoch's validation, where there is to be one. The first comes with the columns' names.

    Parameters
    ----------
    run
        The run whose events come.
    """

    def __init__(self, run: Run) -> None:
        self.spec = run.spec
        self.step = 0
        self.steps: int | None = None
        self.latest: dict[str, Any] = {}
        self.epochs = epochs(run.spec)
        self._train: dict[str, Any] | None = None
        self._since: float | None = None  # when the epoch at hand began
        self._named = False

    def feed(self, rows: list[dict[str, Any]]) -> Iterator[str]:
        """Take new events; yields a line for each epoch that they complete."""
        for line in self._feed(rows):
            if not self._named:
                self._named = True
                yield _columns(COLUMNS)
            yield line

    def _feed(self, rows: list[dict[str, Any]]) -> Iterator[str]:
        for row in sorted(rows, key=lambda row: row["t"]):
            kind = row["kind"]
            if kind == "train":
                self.step, self.latest = max(self.step, row["step"]), row
            elif kind == "state":
                self.steps = row.get("steps", self.steps)
                if row["state"] == "running":
                    self._since = row["t"] if "steps" in row else None  # after a pause the time would be wrong
            elif kind == "note" and "rewind" in row:
                self.step = row["rewind"]
            elif kind == "eval" and row["split"] == "train":
                self._train = {**row, "samples_per_s": self._rate(row)}
                if not (self.spec.eval_every and (row["epoch"] + 1) % self.spec.eval_every == 0):
                    yield self._line(None)
            elif kind == "eval" and row["split"] == "val" and self._train:
                yield self._line(row)

    def _rate(self, row: dict[str, Any]) -> float | None:
        return None if self._since is None or row["t"] <= self._since else row["samples"] / (row["t"] - self._since)

    def _line(self, val: dict[str, Any] | None) -> str:
        train, self._train = self._train or {}, None
        self._since = (val or train)["t"]
        rate = train["samples_per_s"]
        figures = [row.get(name) for row in (train, val or {}) for name in ("loss", "accuracy")]
        cells = [f"{train['epoch'] + 1}/{self.epochs}", str(train["step"])]
        cells += ["-" if figure is None else f"{figure:.4g}" for figure in figures]
        return _columns([*cells, "-" if rate is None else number(rate)])


def follow(run: Run, quiet: bool = False) -> str:
    """
    Show a run until it has ended; returns its state then.

    The first Ctrl-C or SIGTERM asks the run to stop and waits for it; the second leaves it to itself.
    """
    with _interrupts(run) as asked, _display(run, quiet) as show:
        tail, epochs = run.tail(), Epochs(run)
        while True:
            state = run.state  # before the events, so that none of an ended run is missed
            show(epochs, list(epochs.feed(tail.read())), state)
            if state in ENDED or asked["count"] > 1:
                return state
            time.sleep(POLL)


@contextlib.contextmanager
def _interrupts(run: Run) -> Iterator[dict[str, int]]:
    asked = {"count": 0}

    def ask(number: int, frame: Any) -> None:
        asked["count"] += 1
        if asked["count"] == 1:
            run.stop()
            click.echo("Stopping at the next step (once more leaves the run to itself) ...", err=True)
        else:
            click.echo(f"Left to itself. To see it again: {ATTACH.format(id=run.id)}", err=True)

    before = {name: signal.signal(name, ask) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


@contextlib.contextmanager
def _display(run: Run, quiet: bool) -> Iterator[Any]:
    """A function (epochs, new lines, state) that shows them."""
    import sys

    if quiet:
        yield lambda *_: None
    elif not sys.stdout.isatty():
        yield lambda epochs, lines, state: [click.echo(line) for line in lines]
    else:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[now]}"),
        )
        with Progress(TextColumn("{task.description}"), *columns, transient=True) as bar:
            task = bar.add_task(run.state, total=None, now="")

            def show(epochs: Epochs, lines: list[str], state: str) -> None:
                for line in lines:
                    bar.console.print(line, markup=False, highlight=False)
                bar.update(
                    task,
                    description=state,
                    completed=epochs.step,
                    total=epochs.steps,
                    now=_values(epochs.latest).strip(),
                )

            yield show


def _columns(cells: list[str]) -> str:
    return " ".join(f"{cell:>{width}}" for cell, width in zip(cells, (9, 9, 11, 9, 10, 9, 11), strict=True))


def _values(row: dict[str, Any]) -> str:
    loss, accuracy = row.get("loss"), row.get("accuracy")
    text = "" if loss is None else f" loss {loss:<7.4g}"
    return text + ("" if accuracy is None else f" acc {accuracy:.4f}")
