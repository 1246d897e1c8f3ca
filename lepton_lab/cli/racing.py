"""lepton-lab race: a spec under several strategies, in turn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from ..charts.series import contestant
from ..launchers import Launcher
from ..metrics import MINIMISED
from ..run.own import Own
from ..store.folder import ENDED
from ..studies.equality import DIFFERS
from ..studies.races import COLUMNS, Race, entered
from ..values import split
from .options import CHAIN, Fields, SpecCommand, as_json, on_option, pair, spec_options
from .progress import EXIT, follow
from .showing import show_figures

EXAMPLES = """
\b
Examples:
  lepton-lab race --strategy single --strategy ddp --world 2
  lepton-lab race --strategy ddp --strategy ddp:find_unused_parameters=true
  lepton-lab race --model mlp --dataset mnist --world 2 --out race.html

Ctrl-C (or SIGTERM) stops the run at hand and those to come; a second one
leaves them to themselves. Exit status: 0 all are done, and those that have to
equal one process do; 1 not so; 2 refused, and nothing was started; 130 stopped.
"""
STRATEGY = "A strategy, with options of it or a world of its own; may be given several times.  [all there are]"
SHOWN: tuple[str, ...] = (
    MINIMISED,
    f"{MINIMISED} difference",
    "parameter difference",
    "seconds a step",
    "memory",
    "sent a step",
    "time to reference loss",
)


@click.command(cls=SpecCommand, epilog=EXAMPLES)
@spec_options("strategy", *CHAIN)
@click.option("--strategy", metavar="NAME[:KEY=VALUE,...]", multiple=True, help=STRATEGY)
@on_option
@click.option("--out", type=click.Path(path_type=Path), help="Report to write.  [race.html in the first run's folder]")
@as_json
def race(fields: Fields, strategy: tuple[str, ...], on: Launcher, out: Path | None, as_json: bool) -> None:
    """Train under several strategies, one after another."""
    from ..reports import report

    named = [parsed(text) for text in strategy]
    race = entered(fields.spec(), named or None, Own(), strict=bool(named), on=on)
    if not _follow(race, as_json):
        raise SystemExit(EXIT["stopped"])
    rows = race.rows()
    path = report(race.runs, out or race.runs[0].folder / "race.html")
    if as_json:
        click.echo(json.dumps({"race": rows, "report": str(path)}))
    else:
        _show(rows)
        click.echo(f"\nReport: {path}")
    states = {run.state for run in race.runs}
    wrong = states != {"done"} or any(row["check"] == DIFFERS for row in rows)
    raise SystemExit(EXIT["stopped"] if "stopped" in states else int(wrong))


def parsed(text: str) -> dict[str, Any]:
    """`ddp:world=2,bucket=4` as a mapping that `race` takes."""
    name, _, rest = text.partition(":")
    options = dict(map(pair, filter(None, split(rest))))
    world = {"world": options.pop("world")} if "world" in options else {}
    return {"strategy": name, **world, "options": options}


def _follow(race: Race, quiet: bool) -> bool:
    """Show one run after the other; returns whether all have ended, else they were left to themselves."""
    for run in race.runs:
        if not quiet:
            click.secho(f"\n{contestant(run.spec)}  {run.id}", bold=True)
        state = follow(run, quiet)
        if state not in ENDED:
            return False
        if state == "stopped":
            race.stop()
        if run.failure:
            click.secho(f"Error: {run.failure}", fg="red", err=True)
    return True


def _show(rows: list[dict[str, Any]]) -> None:
    click.echo()
    show_figures(
        ["strategy", "check", *SHOWN],
        [[row["name"], row["check"] or row["state"], *(COLUMNS[name](row) for name in SHOWN)] for row in rows],
    )
    for row in rows:
        if row["problem"]:
            click.echo(f"{row['name']} ({row['state']}): {row['problem']}")
