"""lepton-lab: the workbench on the command line. Nothing here imports torch."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ..errors import LabError, SpecError, needs
from ..files import home
from ..launchers import Launcher
from ..run.handle import Run, attach
from ..run.launching import launch, repeat
from ..run.listing import runs
from ..spec import Spec
from ..store.folder import ENDED
from .advising import advise, find_lr
from .answering import generate, predict, serve
from .artifacts import export, load_test, measure
from .compressing import compress
from .data import data
from .examining import label_errors, quality
from .joining import node
from .labelling import COMMANDS as labelling
from .lessons import lab
from .options import Fields, SpecCommand, as_json, on_again, on_option, spec_options
from .progress import foreground
from .racing import race
from .reporting import report
from .searching import estimate, search
from .showing import described, show_table, tell
from .watching import logs, watch

STEERED = {
    "lr": "Learning rate, above 0.",
    "clip": "Largest norm of the gradient; 0 clips nothing.",
    "weight-decay": "Weight decay, 0 or more.",
}
EFFECT = 15.0  # seconds to wait for a command to take effect
UNREAD = 141  # as of what SIGPIPE ends

EXAMPLES = """
\b
Examples:
  lepton-lab demo                      the CNN on digits over two processes
  lepton-lab run --world 2 --epochs 10 --lr 3e-4
  lepton-lab run --model mlp --option hidden=256 --name wide --detach
  lepton-lab race --world 2 --strategy single --strategy ddp
  lepton-lab compress prune:0.5 quantize:int8   the latest run, smaller
  lepton-lab search --bytes 40000      a chain that makes it as small as that
  lepton-lab list                      all runs, newest first
  lepton-lab watch wide                a run by its name, as it goes on
  lepton-lab set --lr 1e-4             steer the latest run while it trains
  lepton-lab stop 20261122-021408-3fa2
  lepton-lab report --out report.html  the latest run as one offline page
  lepton-lab report --grid grid.yaml --out reports/
  lepton-lab export ID model.lepton --scheme int8_static
  lepton-lab measure model.lepton --data mnist
  lepton-lab data list                 data sets and weights by name
  lepton-lab lab ~/lessons             the lessons in JupyterLab

An ID may be a run's name, or the beginning of either where it fits one run
alone; no ID is the latest run. Runs are kept under LEPTON_LAB_HOME, data under
LEPTON_LAB_DATA (each a folder).

Exit status: 0 done; 1 a run failed; 2 the command was refused, and nothing
was started; 130 a run was stopped.
"""

RUN_EXAMPLES = """
\b
Examples:
  lepton-lab run --dataset mnist --model mlp --batch-size 100
  lepton-lab run --optimizer sgd --lr 0.1 --schedule cosine --warmup 50
  lepton-lab run --model cnn --option dropout=0.2 --option hidden=128
  lepton-lab run --spec spec.yaml --seed 1
  lepton-lab run --like 20261122-021408-3fa2 --lr 3e-4
  lepton-lab run --world 8 --on slurm:partition=gpu,nodes=2,time=60
  lepton-lab run --world 4 --on torchrun:1:2,hosts=[node1,node2] --detach

Ctrl-C (or SIGTERM) saves a checkpoint and stops; a second one leaves the run
to itself. Exit status: 0 done, 1 failed, 2 refused, 130 stopped.
"""


class Refused(click.ClickException):
    """What a user can put right, as one sentence on stderr."""

    exit_code = 2


class Lab(click.Group):
    """The commands; an error of ours becomes its sentence and exit status 2."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        if os.environ.get("NO_COLOR"):  # no-color.org; rich obeys it, click does not
            ctx.color = False
        try:
            return super().invoke(ctx)
        except LabError as error:
            raise Refused(str(error)) from None
        except BrokenPipeError:  # `| head` has seen enough; Python's last flush must not fail on it too
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            raise SystemExit(UNREAD) from None


one = click.argument("id", required=False)


@click.group(cls=Lab, epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="lepton-lab", message="%(prog)s %(version)s")
def main() -> None:
    """Train and compress models over processes that outlive the terminal; watch, steer and report on them."""


for command in (race, advise, watch, logs, measure, export, load_test, predict, serve, generate, find_lr, estimate):
    main.add_command(command)
for command in (search, lab, quality, label_errors, compress, data, report, node, *labelling):
    main.add_command(command)


def steered(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options for what can change in the middle of a run."""
    for name, help in reversed(STEERED.items()):
        command = click.option(f"--{name}", metavar="NUMBER", help=help)(command)
    return command


@main.command(cls=SpecCommand, epilog=RUN_EXAMPLES)
@spec_options()
@click.option("--like", metavar="ID", help="Start from the spec and the code of an earlier run.")
@on_option
@click.option("--detach", is_flag=True, help="Print the run's id and return at once.")
@as_json
def run(fields: Fields, like: str | None, on: Launcher, detach: bool, as_json: bool) -> None:
    """Train a model; shows an epoch a line until it is done."""
    if fields.file and like:
        raise SpecError(f"spec={str(fields.file)!r}: takes the place of --like {like}; give one of the two")
    if like:
        model = attach(like)
        launched = repeat(model, on=on, **fields.changes(model.spec))
    else:
        launched = launch(fields.spec(), on=on)
    if detach:
        tell(launched, as_json, lambda: launched.id)
    else:
        raise SystemExit(foreground(launched, as_json))


@main.command("list")
@click.option("--tag", help="Only runs that bear this tag.")
@click.option("--archived", is_flag=True, help="Those that were archived, in place of the others.")
@as_json
def list_runs(tag: str | None, archived: bool, as_json: bool) -> None:
    """Show the runs, newest first."""
    listed = runs(tag, archived)
    if as_json:
        click.echo(json.dumps([run.summary() for run in listed], indent=1))
    elif not listed:
        click.echo(_none(tag, archived))
    else:
        show_table(listed)
        for run in (run for run in listed if run.state in ("starting", "running") and run.remark):
            click.echo(f"{run.id}: {run.remark}")


@main.command()
@one
@as_json
def show(id: str | None, as_json: bool) -> None:
    """Show a run: its state, figures, spec, and how to repeat it."""
    run = attach(id)
    tell(run, as_json, lambda: described(run))


@main.command()
@one
@as_json
def stop(id: str | None, as_json: bool) -> None:
    """Save a checkpoint at the next step, and end."""
    run = attach(id)
    run.stop()
    _after(run, as_json, lambda: run.state in ENDED)


@main.command()
@one
@as_json
def pause(id: str | None, as_json: bool) -> None:
    """Stand still at the next step, all in memory."""
    run = attach(id)
    run.pause()
    _after(run, as_json, lambda: run.state in ("paused", *ENDED))


@main.command(short_help="Go on after a pause, a stop, or a failure.")
@one
@click.option("--strategy", metavar="NAME", help="Go on under another strategy.")
@click.option("--world", metavar="INTEGER", help="Go on over another number of ranks.")
@click.option("--option", "pairs", metavar="KEY=VALUE", multiple=True, help="An option of the strategy, one at a time.")
@click.option("--device", metavar="[auto|cpu|cuda]", help="Go on on another device.")
@click.option("--timeout", metavar="NUMBER", help="Seconds that a rank waits for another from now on.")
@on_again
@steered
@as_json
def resume(id: str | None, pairs: tuple[str, ...], on: Launcher | None, as_json: bool, **fields: str | None) -> None:
    """Go on after a pause, or from the last checkpoint of a run that ended early."""
    run = attach(id)
    run.resume(on, **Fields(fields, pairs).changes(Spec()))
    _after(run, as_json, lambda: run.state in ("running", *ENDED))


@main.command(short_help="Train a run that is done for more epochs.")
@one
@click.option("--epochs", type=int, required=True, help="How many more, 1 or more.")
@steered
@as_json
def extend(id: str | None, epochs: int, as_json: bool, **fields: str | None) -> None:
    """Go on with a run that is done, for more epochs; then it is tested anew."""
    run = attach(id)
    run.extend(epochs, **Fields(fields).changes(Spec()))
    _after(run, as_json, lambda: run.state in ("running", *ENDED))


@main.command("set", short_help="Change the learning rate of a running job.")
@one
@steered
@as_json
def set_values(id: str | None, as_json: bool, **fields: str | None) -> None:
    """Change the learning rate, clipping or weight decay of a running job."""
    values = {name: value for name, value in fields.items() if value is not None}
    if not values:
        raise SpecError("set needs a value, such as --lr 3e-4 (or --clip, --weight-decay)")
    run = attach(id)
    before = _noted(run)
    run.set(**values)  # type: ignore[arg-type]
    _after(run, as_json, lambda: _noted(run) > before or run.state in ENDED)


@main.command()
@click.option("--out", type=click.Path(path_type=Path), help="File to write.  [report.html in the run's folder]")
def demo(out: Path | None) -> None:
    """Train the CNN on digits over two processes, and report on it."""
    from ..launchers.devices import workers
    from ..reports import report as write

    needs("the demo's report", "jinja2", "matplotlib")
    world = min(2, workers())
    launched = launch(Spec(dataset="digits", model="cnn", strategy="ddp", world=world, epochs=5, name="demo"))
    click.echo(f"The CNN on digits over {world} {'processes' if world > 1 else 'process'}; run {launched.id}.")
    status = foreground(launched, as_json=False)
    click.echo(f"Report: {write(launched, out or launched.folder / 'report.html')}")
    raise SystemExit(status)


def _none(tag: str | None, archived: bool) -> str:
    """Why a list is empty."""
    if not runs():
        return f"There are no runs yet under {home() / 'runs'}: lepton-lab demo makes one."
    if tag:
        return f"There are no runs with tag {tag!r}{' in' if archived else ' outside'} the archive."
    return "No run is archived." if archived else "All runs are archived: lepton-lab list --archived shows them."


def _after(run: Run, as_json: bool, effective: Callable[[], bool]) -> None:
    """Wait a little for a command to take effect, then tell the state."""
    deadline = time.monotonic() + EFFECT
    while not (done := effective()) and time.monotonic() < deadline:
        time.sleep(0.05)
    late = "" if done else " (it will take effect at the run's next step)"
    tell(run, as_json, lambda: f"{run.id}  {run.state}{late}")


def _noted(run: Run) -> int:
    return sum(row.get("command") == "set" for row in run.rows("note"))
