"""Progress of a run as text: a line an epoch, and one line that a terminal draws again and again."""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import sys
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TextIO

from ..metrics import METRICS, MINIMISED, Figure, Known, figures, steps
from ..output import EVERY, kernel, width
from ..store.figures import VALUE
from ..store.story import Story

if TYPE_CHECKING:
    from .handle import Run


def _shown(of: Known) -> dict[str, Figure]:
    """Figures of an epoch's line, by key."""
    return figures("train", names=steps(), of=of) | figures("val", of=of)


def _head(figure: Figure) -> tuple[str, int]:
    """What people read above a figure, and its width: the first of a split says whose it is."""
    name = figure.metric.word()
    head = f"{figure.split} {name}" if figure.name == MINIMISED else name
    return head, max(len(head) + 1, 10 if figure.name == MINIMISED else 9)


def _heads(shown: Mapping[str, Figure]) -> dict[str, tuple[str, int]]:
    """Figure of an epoch -> what people read above it, and its width."""
    heads = {key: _head(figure) for key, figure in shown.items()}
    return {"epoch": ("epoch", 9), "step": ("step", 9), **heads, "rate": ("samples/s", 11)}


OWN = 3  # numbers of a user's own beside a bar

Show = Callable[["Epochs", list[str], str], object]
"""Shows (epochs, new lines, state)."""


class Epochs:
    """
    Events in, a line for each epoch out.

    A line waits for its epoch's validation, where there is to be one. The first comes with the columns' names; below
    each stands what a user's code logged, if it did. Each has `width` characters at most.
    """

    def __init__(self, run: Run, width: int = 80) -> None:
        self.spec = run.spec
        self.story = Story.of(run.spec, timed=False)
        self._train: dict[str, Any] | None = None
        self._since: float | None = None  # when the epoch at hand began
        self._named = False
        self._step = math.inf  # of the epoch that was told of last
        self._shown = _shown(run.metrics)
        self._heads = _heads(self._shown)
        self._columns, self._width = list(self._heads), width
        # In this order, where a terminal is narrower.
        for name in ("rate", "step", *(key for key in reversed(self._shown) if self._shown[key].name != MINIMISED)):
            if sum(self._heads[column][1] + 1 for column in self._columns) > width:
                self._columns.remove(name)

    def feed(self, rows: list[dict[str, Any]]) -> Iterator[str]:
        """Take new events; yields a line for each epoch that they complete."""
        for line in self._feed(rows):
            if not self._named:
                self._named = True
                yield self._line({name: head for name, (head, _) in self._heads.items()})
            yield line
            if words := own(self.story, self._step):
                yield f"{'':{self._heads['epoch'][1]}} {'  '.join(words)}"[: self._width]

    def _feed(self, rows: list[dict[str, Any]]) -> Iterator[str]:
        self.story.add(rows)
        for row in sorted(rows, key=lambda row: row["t"]):
            kind = row["kind"]
            if kind == "state" and row["state"] == "running":
                self._since = row["t"] if "steps" in row else None  # after a pause the time would be wrong
            elif kind == "eval" and row["split"] == "train":
                self._train = {**row, "samples_per_s": self._rate(row)}
                if not (self.spec.eval_every and (row["epoch"] + 1) % self.spec.eval_every == 0):
                    yield self._epoch(None)
            elif kind == "eval" and row["split"] == "val" and self._train:
                yield self._epoch(row)

    def _rate(self, row: dict[str, Any]) -> float | None:
        return None if self._since is None or row["t"] <= self._since else row["samples"] / (row["t"] - self._since)

    def _epoch(self, val: dict[str, Any] | None) -> str:
        train, self._train = self._train or {}, None
        self._step = train["step"]
        self._since = (val or train)["t"]
        rows = {"train": train, "val": val or {}}
        values = {key: rows[figure.split].get(figure.name) for key, figure in self._shown.items()}
        cells = {key: "-" if value is None else f"{value:.4g}" for key, value in values.items()}
        rate = train["samples_per_s"]
        cells |= {"epoch": f"{train['epoch'] + 1}/{self.story.epochs}", "step": str(train["step"])}
        return self._line(cells | {"rate": "-" if rate is None else f"{rate:,.0f}"})

    def _line(self, cells: dict[str, str]) -> str:
        return " ".join(f"{cells[name]:>{self._heads[name][1]}}" for name in self._columns)


@contextlib.contextmanager
def waiting(run: Run) -> Iterator[Callable[[str], object]]:
    """
    What a script shows on stderr while it waits for a run: a function to call with the state, as often as one likes.

    On a terminal one line is drawn again and again; a file or a pipe gets a line an epoch. Nothing is shown in a
    notebook, where views do it, and in worker processes, which would all write at once.
    """
    if kernel() or multiprocessing.parent_process():
        yield lambda state: None
        return
    tail, epochs = run.tail(), Epochs(run, width(sys.stderr))
    with bar(run, sys.stderr) if sys.stderr.isatty() else plain(sys.stderr) as show:
        last, looked = "", 0.0

        def look(state: str) -> None:
            nonlocal last, looked
            if state != last or time.monotonic() - looked >= EVERY:
                last, looked = state, time.monotonic()
                show(epochs, list(epochs.feed(tail.read())), state)

        yield look


def display(run: Run) -> None:
    """Show a run's view below the cell at hand, in a notebook; elsewhere nothing."""
    if kernel():
        sys.modules["IPython"].display.display(run)


@contextlib.contextmanager
def plain(stream: TextIO) -> Iterator[Show]:
    """Lines alone."""
    yield lambda epochs, lines, state: [print(line, file=stream, flush=True) for line in lines]


@contextlib.contextmanager
def bar(run: Run, stream: TextIO, lines_too: bool = False) -> Iterator[Show]:
    """One line on a terminal, drawn again and again; with `lines_too` it goes at the end and leaves a line an epoch."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(file=stream, emoji=False)
    columns = [
        TextColumn("{task.description}", markup=False),  # it holds a name, which may have any brackets
        BarColumn(max(8, min(40, console.width - 62))),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[now]}"),
    ]
    if console.width < 60:
        del columns[1]
    with Progress(*columns, console=console, transient=lines_too) as progress:
        name = "" if lines_too else f"{run.name or run.id} "
        task = progress.add_task(f"{name}{run.state}", total=None, now="")

        def show(epochs: Epochs, lines: list[str], state: str) -> None:
            for line in lines if lines_too else ():
                console.print(line, markup=False, highlight=False)
            story = epochs.story
            figures: dict[str, Any] = {"completed": story.step, "total": story.steps, "now": _now(story)}
            progress.update(task, description=f"{name}{state}", **figures)

        yield show


def _now(story: Story) -> str:
    latest = {METRICS[name].short: story.training.latest(name) for name in steps()}
    words = [f"{short} {value:<7.4g}" for short, value in latest.items() if value is not None]
    return " ".join([*words, *own(story)[:OWN]])


def own(story: Story, step: float = math.inf) -> list[str]:
    """The latest of each number that a user's code logged up to a step, in training, in words."""
    tracks = {name: track for (name, split), track in story.logged.items() if split == "train"}
    latest = {name: track.part(0, bisect_right(track.x, step)).latest(VALUE) for name, track in tracks.items()}
    return [f"{name} {value:.4g}" for name, value in latest.items() if value is not None]
