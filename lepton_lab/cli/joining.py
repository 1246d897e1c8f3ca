"""The command that a machine is given to take part in a run."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(short_help="Take part in a run, as one of its machines.")
@click.argument("run")
def node(run: str) -> None:
    """
    Take part in RUN, which was launched with lab.Torchrun, until it has ended.

    RUN is the run's folder, which the machines share, its address on a store (s3://bucket/prefix/runs/ID), or its id
    under this LEPTON_LAB_HOME. What it does is in the run's logs and curves. Ctrl-C takes the machine out of the run:
    the others go on from the last checkpoint.
    """
    from ..launchers.torchrun import node as machine
    from ..store.finding import find
    from ..store.objects import link

    if "://" in run or Path(run, "spec.json").exists():
        raise SystemExit(machine.main(run))
    path = find(run).path
    far = link.pulled(path)
    raise SystemExit(machine.main(f"{far['address']}/runs/{path.name}" if far else str(path)))
