"""A run in the foreground of a terminal: its progress until it ends, and what Ctrl-C does."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import click

from ..metrics import Figure, main
from ..output import EVERY, width
from ..run.progress import Epochs, Show, bar, plain
from ..store.folder import ENDED
from ..store.nodes import named
from .showing import record

if TYPE_CHECKING:
    from ..run.handle import Run

LOOK = 1.0  # seconds between looks at what a run waits for
EXIT = {"done": 0, "stopped": 130}  # any other end is 1
ATTACH = 'lepton-lab watch {id}, or from Python: lepton_lab.attach("{id}")'


def foreground(run: Run, as_json: bool, stops: bool = True) -> int:
    """Follow a run and say how it ended; returns the exit status. Ctrl-C `stops` the run, or else leaves it going."""
    try:
        state = follow(run, quiet=as_json, stops=stops)
        if as_json:
            click.echo(json.dumps(record(run)))
        elif state in ENDED:
            judge = Figure(main(), "test")
            value = run.summary()[judge.key]
            test = "" if value is None else f"  {judge.label} {value:.4f}"
            click.echo(f"{click.style(state, bold=True)}{test}  {run.folder}")
    except BrokenPipeError:
        if run.state not in ENDED:
            again = ATTACH.format(id=run.id)
            click.echo(f"Nobody reads the output any more; the run goes on. To see it again: {again}", err=True)
        raise
    if run.failure:
        click.secho(f"Error: {run.failure}", fg="red", err=True)
    elif run.remark:
        click.echo(f"{run.id}: {run.remark}", err=True)
    return EXIT.get(state, 1) if state in ENDED else EXIT["stopped"]


def follow(run: Run, quiet: bool = False, stops: bool = True) -> str:
    """
    Show a run until it has ended; returns its state then.

    The first Ctrl-C or SIGTERM asks the run to stop and waits for it; the second leaves it to itself, as the first does
    where it `stops` nothing.
    """
    interrupts = 0

    def interrupted() -> None:
        nonlocal interrupts
        interrupts += 1
        if stops and interrupts == 1:
            run.stop()
            click.echo("Stopping at the next step (once more leaves the run to itself) ...", err=True)
        else:
            left = "Left to itself." if stops else f"Run {run.id} goes on."
            click.echo(f"{left} To see it again: {ATTACH.format(id=run.id)}", err=True)

    with on_interrupt(interrupted), _display(run, quiet) as show:
        tail, epochs, standing = run.tail(), Epochs(run, width(sys.stdout)), Standing(run)
        while True:
            state = run.state  # before the events, so that none of an ended run is missed
            show(epochs, [*standing.news(state), *epochs.feed(tail.read())], state)
            if state in ENDED or interrupts > stops:
                return state
            time.sleep(EVERY)


class Standing:
    """What a run waits for, and its machines where it is on others: a line whenever that is another."""

    def __init__(self, run: Run) -> None:
        self.run, self.due, self.said = run, 0.0, ("", "")

    def news(self, state: str) -> Iterator[str]:
        """The lines to show now."""
        now = time.monotonic()
        if state in ENDED or now < self.due:
            return
        self.due = now + LOOK
        waits = state in ("queued", "starting") or self.run.facts.get("reason")
        told = (self.run.remark if waits else "", named(self.run.nodes))
        yield from (text for text, before in zip(told, self.said, strict=True) if text and text != before)
        self.said = told


@contextlib.contextmanager
def on_interrupt(call: Callable[[], object]) -> Iterator[None]:
    """Ctrl-C and SIGTERM call a function, and end nothing by themselves."""
    before = {name: signal.signal(name, lambda *_: call()) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


def _display(run: Run, quiet: bool) -> contextlib.AbstractContextManager[Show]:
    if quiet:
        return contextlib.nullcontext(lambda *_: None)
    return bar(run, sys.stdout, lines_too=True) if sys.stdout.isatty() else plain(sys.stdout)
