"""lepton-lab estimate and search: what a chain would make of a model, and a chain that meets a budget."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from ..metrics import MEASURED
from ..run.handle import attach
from .compressing import LINK, known, link
from .listing import show_figures
from .options import CHAIN, SpecCommand, as_json, chosen, option_help, spec_options
from .progress import EXIT

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
@spec_options("model", *CHAIN, defaults=False)
@click.option("--parent", metavar="ID", help="The run whose model it is about.  [the latest]")
@click.option("--option", "pairs", metavar="KEY=VALUE", multiple=True, help=option_help())
@as_json
def estimate(
    chain: tuple[str, ...], parent: str | None, pairs: tuple[str, ...], as_json: bool, **given: str | None
) -> None:
    """Predict what a chain would make of a run's model: parameters, multiply-adds, bytes, latency."""
    from ..run.estimates import HEADS, NOTE
    from ..run.estimates import estimate as predict

    run = attach(parent)
    found = predict(run, [link(text) for text in chain], **chosen(given, pairs, run.spec))
    if as_json:
        click.echo(json.dumps(found.to_dict(), indent=1))
    else:
        show_figures(HEADS, found.rows(), NOTE)


estimate.help = f"{estimate.help}\n\n{LINK}\n\n\b\n{known()}"


@click.command(cls=SpecCommand, epilog=SEARCH_EXAMPLES, short_help="Find a chain that meets a budget.")
@spec_options("model", "seed", *CHAIN, defaults=False)
@click.option("--parent", metavar="ID", help="The run whose model is compressed.  [the latest]")
@click.option("--bytes", "size", type=float, help="Bytes of the file, at most.")
@click.option("--latency", type=float, help="Seconds for a batch of 64, at most.")
@click.option("--latency-1", type=float, help="Seconds for one sample, at most.")
@click.option("--accuracy-drop", type=float, help="Accuracy below the dense control's, at most, as a fraction.")
@click.option("--trials", type=int, default=12, show_default=True, help="Runs, at most.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the search.")
@click.option("--option", "pairs", metavar="KEY=VALUE", multiple=True, help=option_help())
@as_json
def search(
    parent: str | None,
    size: float | None,
    latency: float | None,
    latency_1: float | None,
    accuracy_drop: float | None,
    trials: int,
    seed: int,
    pairs: tuple[str, ...],
    as_json: bool,
    **given: str | None,
) -> None:
    """Look for a chain of compressors that meets a budget; give at least one limit."""
    from ..studies.searching import search as look

    limits = {"bytes": size, "latency": latency, "latency_1": latency_1, "accuracy_drop": accuracy_drop}
    budget = {name: limit for name, limit in limits.items() if limit is not None}
    run = attach(parent)
    found = look(run, budget, trials, seed=seed, **chosen(given, pairs, run.spec))
    stopped = _follow(found)
    best = found.best
    if as_json:
        told = {"verdict": found.verdict, "best": best.run.id if best else None, "trials": _records(found)}
        click.echo(json.dumps(told, indent=1))
    else:
        click.echo(found.verdict)
    raise SystemExit(EXIT["stopped"] if stopped else int(best is None))


def _follow(found: Search) -> bool:
    """Name each run as it begins, on stderr; returns whether it was stopped."""
    from ..chains import chain_name

    told, stopped = 0, False
    while found.going or told < len(found.trials):
        try:
            for trial in found.trials[told:]:
                told += 1
                click.echo(f"{told} of {found.count}: {chain_name(trial.chain)}  {trial.run.id}", err=True)
            found.wait(POLL)
        except KeyboardInterrupt:
            stopped = True
            click.echo("Stopping the run at hand ...", err=True)
            found.stop()
    return stopped


def _records(found: Search) -> list[dict[str, Any]]:
    return [
        {"id": one.run.id, "chain": one.chain, MEASURED: one.accuracy, "problem": one.problem, **one.values}
        for one in found.trials
    ]
