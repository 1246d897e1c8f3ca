"""lepton-lab advise: what a spec would cost under each strategy, before it runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import SpecError
from ..run.handle import attach
from ..spec import Spec
from .options import CHAIN, SpecCommand, as_json, chosen, option_help, spec_options
from .racing import STRATEGY, parsed

if TYPE_CHECKING:
    from ..studies.advice import Advice

EXAMPLES = """
\b
Examples:
  lepton-lab advise --model gpt --dataset pydocs
  lepton-lab advise --model cnn --strategy ddp:compress=topk --strategy fsdp --world 2 --world 8
  lepton-lab advise --like 20261122-021408-3fa2

No process is started. Exit status: 0; 2 refused, a strategy that was named too.
"""
REFUSED = 2
LIKE = "Look at a run: its spec and code, and what was measured beside what was predicted."


@click.command(cls=SpecCommand, epilog=EXAMPLES)
@spec_options("strategy", "world", *CHAIN)
@click.option("--strategy", metavar="NAME[:KEY=VALUE,...]", multiple=True, help=STRATEGY)
@click.option("--world", metavar="INTEGER", type=int, multiple=True, help="Ranks; several times.  [1, 2 and 4]")
@click.option("--option", "pairs", metavar="KEY=VALUE", multiple=True, help=option_help())
@click.option("--spec", "file", type=click.Path(path_type=Path), help="Start from a YAML or JSON file of fields.")
@click.option("--like", metavar="ID", help=LIKE)
@as_json
def advise(
    strategy: tuple[str, ...],
    world: tuple[int, ...],
    pairs: tuple[str, ...],
    file: Path | None,
    like: str | None,
    as_json: bool,
    **given: str | None,
) -> None:
    """Predict what a step costs under each strategy."""
    from ..studies.advice import WORLDS
    from ..studies.advice import advise as predict

    fields = chosen(given, pairs)
    if like and (fields or file):
        raise SpecError(f"like={like!r}: looks at a run as it is; give no other fields, or leave out --like")
    base = Spec.load(file) if file else Spec()
    spec = attach(like) if like else base.replace(**chosen(given, pairs, base))
    found = predict(spec, world or WORLDS, [parsed(text) for text in strategy] or None)
    if as_json:
        click.echo(json.dumps(found.records(), indent=1))
    else:
        _show(found)
    raise SystemExit(REFUSED if strategy and any(row.cost is None for row in found.rows) else 0)


def _show(found: Advice) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=200)  # a file or a pipe wraps little
    columns, lines = found.cells()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        left = name in (columns[0], columns[-1])
        table.add_column(name, justify="left" if left else "right", no_wrap=name != columns[-1])
    for line in lines:
        table.add_row(*line)
    console.print(table, markup=False)
