"""lepton-lab watch and logs: a run that is on its way, from any terminal."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from ..errors import SpecError
from ..output import EVERY
from ..run.handle import Run, attach
from ..store.folder import ENDED
from .options import as_json
from .progress import EXIT, foreground

WATCH_EXAMPLES = """
\b
Examples:
  lepton-lab watch                     the latest run
  lepton-lab watch wide                the run of that name

Ctrl-C leaves the run going. Exit status: 0 done, 1 failed, 2 refused, 130
stopped, or left by Ctrl-C.
"""
LOGS_EXAMPLES = """
\b
Examples:
  lepton-lab logs                      what the latest run's ranks printed
  lepton-lab logs wide --rank 1 --follow

Exit status: 0; 2 refused; 130 left by Ctrl-C.
"""


@click.command(epilog=WATCH_EXAMPLES)
@click.argument("id", required=False)
@as_json
def watch(id: str | None, as_json: bool) -> None:
    """Follow a run until it ends; it goes on without you."""
    raise SystemExit(foreground(attach(id), as_json, stops=False))


@click.command(epilog=LOGS_EXAMPLES)
@click.argument("id", required=False)
@click.option("--rank", type=int, help="One rank's alone.  [all, each line with its rank]")
@click.option("--follow", is_flag=True, help="Go on until the run has ended.")
def logs(id: str | None, rank: int | None, follow: bool) -> None:
    """Show what a run's ranks printed."""
    run = attach(id)
    if rank is not None and not 0 <= rank < run.spec.world:
        raise SpecError(f"rank={rank}: run {run.id!r} has ranks 0 to {run.spec.world - 1}")
    ranks = range(run.spec.world) if rank is None else [rank]
    several = len(ranks) > 1
    printed = [Printed(run.folder / "logs" / f"rank{one}.log", f"rank {one} | " * several) for one in ranks]
    try:
        _show(run, printed, follow)
    except KeyboardInterrupt:
        raise SystemExit(EXIT["stopped"]) from None
    if not any(log.seen for log in printed):
        where = "" if rank is None else f" on rank {rank}"
        click.echo(f"Run {run.id} ({run.state}) has printed nothing{where}.", err=True)


class Printed:
    """What a rank printed, each line behind `head`, and how much of it was shown."""

    def __init__(self, path: Path, head: str) -> None:
        self.path, self.head, self.seen = path, head, 0

    def show(self, all_of_it: bool) -> None:
        """Print what is new: whole lines, or all there is."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self.seen)
            text = file.read()
        text = text if all_of_it else text[: text.rfind(b"\n") + 1]
        self.seen += len(text)
        for line in text.decode(errors="replace").splitlines():
            click.echo(f"{self.head}{line}")


def _show(run: Run, printed: list[Printed], follow: bool) -> None:
    while True:
        over = not follow or run.state in ENDED  # before the files, so that nothing of an ended run is missed
        for log in printed:
            log.show(over)
        sys.stdout.flush()
        if over:
            return
        time.sleep(EVERY)
