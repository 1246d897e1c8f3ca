"""lepton-lab measure, export and load-test: what a model costs, a file of it, and whether the file stands by itself."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import click

from ..errors import LabError, SpecError
from ..host import PACKAGES, child
from ..run.handle import attach
from ..spec import Spec
from .options import as_json
from .showing import show_figures

MEASURE_EXAMPLES = """
\b
Examples:
  lepton-lab measure 20261122-021408-3fa2
  lepton-lab measure model.lepton --data mnist --threads 2
  lepton-lab measure model.lepton --dense 20261122-021408-3fa2 --peers

Exit status: 0; 2 refused.
"""
EXPORT_EXAMPLES = """
\b
Examples:
  lepton-lab export 20261122-021408-3fa2 model.lepton --scheme int8_static
  lepton-lab export 20261122-021408-3fa2 model.onnx --format onnx
  lepton-lab export 20261122-021408-3fa2 model.pt2 --format torch

The file is held to the model's own output. Exit status: 0; 2 refused.
"""
LOAD_EXAMPLES = """
\b
Examples:
  lepton-lab load-test model.lepton
  lepton-lab load-test model.lepton --calls 1000 --batch 64 --threads 1

A process of its own loads the file, without the code that defined the model,
holds its output to that where it was written, and calls it again and again.
Exit status: 0; 1 it computes something else here; 2 refused.
"""


@click.command(epilog=MEASURE_EXAMPLES)
@click.argument("what", metavar="[FILE|ID]", required=False)
@click.option("--data", metavar="NAME", help="Data set whose test samples say how accurate a file is.")
@click.option("--batch", "batches", type=int, multiple=True, help="Batch size; several times.  [1 and 64]")
@click.option("--repeats", type=int, default=30, show_default=True, help="Rounds that are timed.")
@click.option("--threads", type=int, default=1, show_default=True, help="Threads to compute with.")
@click.option(
    "--peers", is_flag=True, help="Let the dense model take turns with it: eager, compiled, bf16, ONNX Runtime."
)
@click.option("--dense", metavar="ID", help="Run whose model was compressed, for the peers of a file.")
@as_json
def measure(
    what: str | None,
    data: str | None,
    batches: tuple[int, ...],
    repeats: int,
    threads: int,
    peers: bool,
    dense: str | None,
    as_json: bool,
) -> None:
    """Measure a file or a run's model, beside fair peers."""
    from .. import datasets
    from ..measures import measure as meter

    is_file = what is not None and (Path(what).is_file() or what.endswith(".lepton"))
    model = Path(what or "") if is_file else attach(what)
    figures = meter(
        model,
        None if data is None else datasets.load(Spec(dataset=data)),
        batches=batches or (1, 64),
        repeats=repeats,
        threads=threads,
        peers=peers,
        dense=attach(dense) if dense else None,
    )
    if as_json:
        click.echo(json.dumps(figures.to_dict(), indent=1))
    else:
        rows = figures.rows()
        show_figures(list(rows[0]), [list(row.values()) for row in rows], figures.how())


@click.command(epilog=EXPORT_EXAMPLES)
@click.argument("id")
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--format", "form", metavar="[lepton|onnx|torch]", default="lepton", show_default=True, help="Kind of file."
)
@click.option(
    "--scheme", metavar="NAME", default="fp32", show_default=True, help="How numbers are stored and computed."
)
@click.option("--keep", metavar="LAYER", multiple=True, help="Layer that int8 leaves in floats; several times.")
@click.option("--runtime", metavar="[onnxruntime|torch]", default="", help="What is to run it.")
@click.option(
    "--checkpoint",
    metavar="[last|best|ema]",
    default="last",
    show_default=True,
    help="Which model of the run: best by its keep_best; ema, its averaged weights.",
)
@as_json
def export(
    id: str,
    path: Path,
    form: str,
    scheme: str,
    keep: tuple[str, ...],
    runtime: str,
    checkpoint: str,
    as_json: bool,
) -> None:
    """Write a run's model to a file that needs none of its code."""
    from ..run.exporting import export as write

    file = write(attach(id), path, form, scheme=scheme, keep=keep, runtime=runtime, checkpoint=checkpoint)
    words = f"{file['path']}  {file['bytes']:,} bytes, {scheme}; off the model's scores by {file['difference']:.2g}"
    click.echo(json.dumps(file) if as_json else words)


@click.command("load-test", epilog=LOAD_EXAMPLES)
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--calls", type=int, default=200, show_default=True, help="Calls to make.")
@click.option("--batch", type=int, default=1, show_default=True, help="Samples of each call.")
@click.option("--threads", type=int, default=1, show_default=True, help="Threads to compute with.")
@as_json
def load_test(path: Path, calls: int, batch: int, threads: int, as_json: bool) -> None:
    """Load a file in a fresh process, check and time it."""
    for name, value in (("calls", calls), ("batch", batch), ("threads", threads)):
        if value < 1:
            raise SpecError(f"{name}={value}: must be at least 1")
    numbers = [str(calls), str(batch), str(threads)]
    words = ["-m", "lepton_lab.artifacts.trial", str(path.absolute()), *numbers]
    ours = {"PYTHONPATH": str(PACKAGES)}  # and nothing of the user's
    with child(words, ours, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        output, errors = process.communicate()
    trial = _last(output)
    if "refused" in trial:
        raise LabError(trial["refused"])
    if not trial:
        raise LabError(f"artifact {str(path)!r}: its process ended with {process.returncode}: {errors.strip()[-200:]}")
    if as_json:
        click.echo(json.dumps(trial))
    else:
        same = "computes what it did where it was written" if trial["same"] else "COMPUTES SOMETHING ELSE here"
        click.echo(f"{path}  loads in {trial['load']:.2f} s, {same} (off by {trial['difference']:.2g})")
        times = f"median {trial['median'] * 1e3:.3g} ms, p95 {trial['p95'] * 1e3:.3g} ms"
        click.echo(f"{calls} calls of {batch}: {times}, {trial['per_second']:,.0f} samples/s")
    raise SystemExit(0 if trial["same"] else 1)


def _last(text: str) -> dict[str, Any]:
    """The JSON of the last line."""
    try:
        return json.loads(text.strip().splitlines()[-1])
    except (ValueError, IndexError):
        return {}
