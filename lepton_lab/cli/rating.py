"""lepton-lab find-lr: a learning rate to begin with."""

from __future__ import annotations

import json
from pathlib import Path

import click

from ..errors import LabError, SpecError
from ..spec import Spec
from .options import CHAIN, SpecCommand, as_json, chosen, option_help, spec_options
from .progress import EXIT

EXAMPLES = """
\b
Examples:
  lepton-lab find-lr --model mlp --optimizer sgd
  lepton-lab find-lr --dataset mnist --lowest 1e-5 --highest 1 --steps 200
  lepton-lab run --lr $(lepton-lab find-lr --json | jq .suggestion)

A short run whose learning rate rises from step to step. Ctrl-C stops it. Exit
status: 0; 1 it failed, or the loss falls at no rate; 2 refused, and nothing was
started; 130 stopped.
"""
GIVEN = ("lr", "schedule", "warmup", "epochs", "eval_every", "checkpoint_every", "name")  # by the test itself


@click.command("find-lr", cls=SpecCommand, epilog=EXAMPLES, short_help="Suggest a learning rate, from a short run.")
@spec_options(*GIVEN, *CHAIN)
@click.option("--option", "pairs", metavar="KEY=VALUE", multiple=True, help=option_help())
@click.option("--spec", "file", type=click.Path(path_type=Path), help="Start from a YAML or JSON file of fields.")
@click.option("--lowest", type=float, default=1e-6, show_default=True, help="Learning rate of the first step.")
@click.option("--highest", type=float, default=10.0, show_default=True, help="Learning rate of the last step.")
@click.option("--steps", type=int, default=100, show_default=True, help="Optimizer steps, at least 20.")
@as_json
def find_lr(
    pairs: tuple[str, ...],
    file: Path | None,
    lowest: float,
    highest: float,
    steps: int,
    as_json: bool,
    **given: str | None,
) -> None:
    """Suggest a learning rate, from a run whose rate rises until the loss diverges."""
    from ..studies.rates import find_lr as find

    base = Spec.load(file) if file else Spec()
    spec = base.replace(**chosen(given, pairs, base))
    try:
        found = find(spec, lowest=lowest, highest=highest, steps=steps)
        suggestion = found.suggestion
    except KeyboardInterrupt:
        raise SystemExit(EXIT["stopped"]) from None
    except SpecError:
        raise
    except LabError as error:
        raise click.ClickException(str(error)) from None
    told = {"suggestion": suggestion, "diverged": found.diverged, "id": found.run.id}
    click.echo(json.dumps(told) if as_json else f"{found.sentence}\nRun: {found.run.id}")
