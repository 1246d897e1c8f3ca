"""lepton-lab estimate and search: what a chain would make of a model, and a chain that meets a budget."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from ..chains import chain_name
from ..launchers import Launcher
from ..metrics import MEASURED
from ..run.handle import attach
from .compressing import with_links
from .options import CHAIN, Fields, SpecCommand, as_json, link, on_option, spec_options
from .progress import EXIT
from .showing import show_figures

if TYPE_CHECKING:
    from ..studies.searching import Search

ESTIMATE_EXAMPLES = """
\b
Examples:
  lepton-lab estimate prune:0.5 quantize:int8            of the latest run
  lepton-lab estimate --parent wide low_rank:0.25 --json

Nothing is run. Exit status: 0; 2 refused, as `lepton-lab compress` would.
"""
SEARCH_EXAMPLES = """
\b
Examples:
  lepton-lab search --bytes 40000 --accuracy-drop 0.01
  lepton-lab search --parent wide --latency 0.002 --trials 6 --epochs 4

Each chain that is tried is a run of its own. Ctrl-C stops the one at hand and
shows what was found. Exit status: 0 a chain meets the budget; 1 none does; 2
refused, and nothing was started; 130 stopped.
"""
POLL = 0.2  # seconds between looks


@click.command(cls=SpecCommand, epilog=ESTIMATE_EXAMPLES, short_help="Predict what a chain would save; runs nothing.")
@click.argument("chain", metavar="LINK...", nargs=-1, required=True)
@spec_options("model", *CHAIN, fresh=False)
@as_json
def estimate(chain: tuple[str, ...], fields: Fields, parent: str | None, as_json: bool) -> None:
    """Predict what a chain would make of a run's model: parameters, multiply-adds, bytes, latency."""
    from ..run.estimates import HEADS, NOTE
    from ..run.estimates import estimate as predict

    run = attach(parent)
    prediction = predict(run, [link(text) for text in chain], **fields.changes(run.spec))
    if as_json:
        click.echo(json.dumps(prediction.to_dict(), indent=1))
    else:
        show_figures(HEADS, prediction.rows(), NOTE)


estimate = with_links(estimate)


@click.command(cls=SpecCommand, epilog=SEARCH_EXAMPLES, short_help="Find a chain that meets a budget.")
@spec_options("model", "seed", *CHAIN, fresh=False)
@click.option("--bytes", type=float, help="Bytes of the file, at most.")
@click.option("--latency", type=float, help="Seconds for a batch of 64, at most.")
@click.option("--latency-1", type=float, help="Seconds for one sample, at most.")
@click.option("--accuracy-drop", type=float, help="Accuracy below the dense control's, at most, as a fraction.")
@click.option("--quality-drop", type=float, help="By how much it may be worse by the task's metric, in its unit.")
@click.option("--trials", type=int, default=12, show_default=True, help="Runs, at most.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the search.")
@on_option
@as_json
def search(
    fields: Fields, parent: str | None, trials: int, seed: int, on: Launcher, as_json: bool, **limits: float | None
) -> None:
    """Look for a chain of compressors that meets a budget; give at least one limit."""
    from ..studies.searching import search as look

    budget = {name: limit for name, limit in limits.items() if limit is not None}
    run = attach(parent)
    search = look(run, budget, trials, seed=seed, on=on, **fields.changes(run.spec))
    stopped = _follow(search)
    best = search.best
    if as_json:
        records = [
            {
                "id": trial.run.id,
                "chain": trial.chain,
                MEASURED: trial.accuracy,
                "problem": trial.problem,
                **trial.values,
            }
            for trial in search.trials
        ]
        answer = {"verdict": search.verdict, "best": best.run.id if best else None, "trials": records}
        click.echo(json.dumps(answer, indent=1))
    else:
        click.echo(search.verdict)
    raise SystemExit(EXIT["stopped"] if stopped else int(best is None))


def _follow(search: Search) -> bool:
    """Name each run as it begins, on stderr; returns whether it was stopped."""
    shown, stopped = 0, False
    while search.going or shown < len(search.trials):
        try:
            for trial in search.trials[shown:]:
                shown += 1
                click.echo(f"{shown} of {search.count}: {chain_name(trial.chain)}  {trial.run.id}", err=True)
            search.wait(POLL)
        except KeyboardInterrupt:
            stopped = True
            click.echo("Stopping the run at hand ...", err=True)
            search.stop()
    return stopped
