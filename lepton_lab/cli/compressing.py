"""lepton-lab compress: a child run that makes another's model smaller or faster."""

from __future__ import annotations

import json

import click

from ..launchers import Launcher
from ..run.handle import attach
from ..run.launching import compress as start
from ..tables import keywords, table
from .options import CHAIN, Fields, SpecCommand, as_json, link, on_option, spec_options
from .progress import foreground

EXAMPLES = """
\b
Examples:
  lepton-lab compress prune:0.5 quantize:int8            the latest run
  lepton-lab compress prune:ratio=0.5,rounds=2 quantize --epochs 4 --world 2
  lepton-lab compress --parent 20261122-021408-3fa2 low_rank:0.25
  lepton-lab compress 'distill:student={"model": "mlp"},temperature=2' quantize

Ctrl-C (or SIGTERM) saves a checkpoint and stops; `lepton-lab resume` goes on
in the link at hand. Exit status: 0 done, 1 failed, 2 refused, 130 stopped.
"""
LINK = """A LINK is NAME, NAME:VALUE or NAME:KEY=VALUE,... What you don't choose is as in the run that is compressed,
but epochs (after each link that trains): 2."""


@click.command(cls=SpecCommand, epilog=EXAMPLES)
@click.argument("chain", metavar="LINK...", nargs=-1, required=True)
@spec_options("model", *CHAIN, fresh=False)
@on_option
@click.option("--detach", is_flag=True, help="Print the run's id and return at once.")
@as_json
def compress(
    chain: tuple[str, ...], fields: Fields, parent: str | None, on: Launcher, detach: bool, as_json: bool
) -> None:
    """Compress a run's model: each LINK, fine-tuned, in order."""
    run = attach(parent)
    child = start(run, [link(text) for text in chain], on=on, **fields.changes(run.spec))
    if detach:
        click.echo(json.dumps({"id": child.id}) if as_json else child.id)
    else:
        raise SystemExit(foreground(child, as_json))


def with_links(command: SpecCommand) -> SpecCommand:
    """A command that takes LINKs, with help on them: the compressors and their options, a line each."""
    lines = (f"  {name:<9} {', '.join(keywords(entry))}" for name, entry in table("compressor").items())
    command.help = "\n\n".join([command.help or "", LINK, "\n".join(["\b", *lines])])
    return command


compress = with_links(compress)
