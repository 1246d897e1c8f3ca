"""lepton-lab advise and find-lr: what a spec would cost under each strategy, and a learning rate to begin with."""

from __future__ import annotations

import json

import click

from ..errors import LabError, SpecError
from ..launchers import Launcher
from ..run.handle import attach
from ..spec import Spec
from .options import CHAIN, Fields, SpecCommand, as_json, on_option, spec_options
from .progress import EXIT
from .racing import STRATEGY, parsed
from .showing import console, print_table

ADVISE_EXAMPLES = """
\b
Examples:
  lepton-lab advise --model gpt --dataset pydocs
  lepton-lab advise --model cnn --strategy ddp:compress=topk --strategy fsdp --world 2 --world 8
  lepton-lab advise --like 20261122-021408-3fa2
  lepton-lab advise --model gpt --dataset pydocs --world 8 --world 1024 --network "10 Gb"

No process is started. Exit status: 0; 2 refused, a strategy that was named too.
"""
FIND_EXAMPLES = """
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
REFUSED = 2
NETWORK = "The link of each rank, such as '10 Gb': how long a step would take over it, by runs that were measured."
LIKE = "Look at a run: its spec and code, and what was measured beside what was predicted."


@click.command(cls=SpecCommand, epilog=ADVISE_EXAMPLES)
@spec_options("strategy", "world", *CHAIN)
@click.option("--strategy", metavar="NAME[:KEY=VALUE,...]", multiple=True, help=STRATEGY)
@click.option("--world", metavar="INTEGER", type=int, multiple=True, help="Ranks; several times.  [1, 2 and 4]")
@click.option("--like", metavar="ID", help=LIKE)
@click.option("--network", metavar="LINK", help=NETWORK)
@as_json
def advise(
    fields: Fields,
    strategy: tuple[str, ...],
    world: tuple[int, ...],
    like: str | None,
    network: str | None,
    as_json: bool,
) -> None:
    """Predict what a step costs under each strategy."""
    from ..studies.advice import WORLDS, Outlook
    from ..studies.advice import advise as predict

    if like and (fields.file or fields.changes(Spec())):
        raise SpecError(f"like={like!r}: looks at a run as it is; give no other fields, or leave out --like")
    target = attach(like) if like else fields.spec()
    advice = predict(target, world or WORLDS, [parsed(text) for text in strategy] or None, network=network)
    if as_json:
        click.echo(json.dumps(advice.records(), indent=1))
    else:
        heads, lines = advice.cells()
        print_table(console(200), heads, lines, left=(heads[0], heads[-1]), wraps=heads[-1])
        if isinstance(advice, Outlook):
            click.echo(advice.note)
    raise SystemExit(REFUSED if strategy and any(row.cost is None for row in advice.rows) else 0)


@click.command(
    "find-lr", cls=SpecCommand, epilog=FIND_EXAMPLES, short_help="Suggest a learning rate, from a short run."
)
@spec_options(*GIVEN, *CHAIN)
@click.option("--lowest", type=float, default=1e-6, show_default=True, help="Learning rate of the first step.")
@click.option("--highest", type=float, default=10.0, show_default=True, help="Learning rate of the last step.")
@click.option("--steps", type=int, default=100, show_default=True, help="Optimizer steps, at least 20.")
@on_option
@as_json
def find_lr(fields: Fields, lowest: float, highest: float, steps: int, on: Launcher, as_json: bool) -> None:
    """Suggest a learning rate, from a run whose rate rises until the loss diverges."""
    from ..studies.rates import find_lr as find

    try:
        test = find(fields.spec(), lowest=lowest, highest=highest, steps=steps, on=on)
        suggestion = test.suggestion
    except KeyboardInterrupt:
        raise SystemExit(EXIT["stopped"]) from None
    except SpecError:
        raise
    except LabError as error:
        raise click.ClickException(str(error)) from None
    record = {"suggestion": suggestion, "diverged": test.diverged, "id": test.run.id}
    click.echo(json.dumps(record) if as_json else f"{test.sentence}\nRun: {test.run.id}")
