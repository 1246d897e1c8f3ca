"""lepton-lab report: runs as a page, a figure of them as a picture, or a whole grid with an index."""

from __future__ import annotations

from pathlib import Path

import click

from ..charts import CHARTS, chart
from ..errors import LabError, SpecError
from ..files import why, write_bytes
from ..run.handle import attach
from .progress import on_interrupt

EXAMPLES = """
\b
Examples:
  lepton-lab report                    the latest run as one offline page
  lepton-lab report ID ID --out two.html
  lepton-lab report ID --figure loss --out loss.png
  lepton-lab report --grid grid.yaml --out reports/

\b
A grid file has fields that all runs share, and lists of values:
  base: {dataset: digits, model: mlp, epochs: 10}
  axes: {lr: [1e-3, 1e-2], optimizer: [adam, sgd]}
  seeds: [0, 1, 2]
  on: torchrun:2,hosts=[node1,node2]    where; here if left out

Each run of it becomes a page; index.html and summary.json tell of all. The
same command again does only what is missing. Ctrl-C (or SIGTERM) stops the
runs and shows what is done. Exit status: 0 all are done; 1 a run failed;
2 refused, and nothing was started; 130 ended early.
"""
OUT = "File to write, with --grid a folder.  [report.html in the first run's folder]"

FIGURE = f"Write one figure as a PNG: {', '.join(CHARTS)}, or a metric that the run has."


@click.command(epilog=EXAMPLES)
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--out", type=click.Path(path_type=Path), help=OUT)
@click.option("--figure", metavar="NAME", help=FIGURE)
@click.option("--quality", is_flag=True, help="Look through the runs' data too: are they ready to be trained on?")
@click.option("--grid", type=click.Path(path_type=Path), help="Run what is missing of a YAML file, and report on all.")
def report(ids: tuple[str, ...], out: Path | None, figure: str | None, quality: bool, grid: Path | None) -> None:
    """Write runs into one offline HTML page, and print its path."""
    from ..reports import report as write

    if grid:
        if ids or figure or quality:
            raise SpecError("--grid makes its own runs and pages: leave out IDs, --figure and --quality")
        raise SystemExit(_grid(grid, out))
    runs = [attach(id) for id in ids] or [attach()]
    if figure:
        click.echo(_picture(chart(figure, runs).png(), out or runs[0].folder / f"{figure}.png"))
    else:
        click.echo(write(runs, out or runs[0].folder / "report.html", quality))


def _grid(file: Path, out: Path | None) -> int:
    """Do a grid; returns the exit status."""
    from ..reports.grids import read
    from ..reports.grids.running import Execution

    if out is None:
        raise SpecError("--grid needs a folder for its pages, such as --out reports/")
    execution = Execution(read(file), out, click.echo)
    try:
        with on_interrupt(execution.end):
            summary = execution.run()
    except OSError as error:  # a disk that is full by now: the folder could be written when this began
        again = "once that is put right, the same command writes what is missing; runs are kept"
        click.echo(f"Error: the pages in {str(out)!r} can't be written ({why(error, out)}): {again}", err=True)
        return 1
    click.echo(f"{summary['status']}: {execution.out / summary['index']}")
    return summary["exit"]


def _picture(png: bytes, out: Path) -> Path:
    try:
        write_bytes(out, png)
    except OSError as error:
        raise LabError(f"the figure {str(out)!r} can't be written ({why(error, out)}): name another file") from None
    return out.absolute()
