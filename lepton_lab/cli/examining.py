"""lepton-lab quality and labels: whether data are ready, and which of their labels are wrong."""

from __future__ import annotations

import json
from pathlib import Path

import click

from ..launchers import Launcher
from .options import CHAIN, Fields, SpecCommand, as_json, on_option, spec_options
from .progress import EXIT

QUALITY_EXAMPLES = """
\b
Examples:
  lepton-lab quality --dataset digits
  lepton-lab quality --dataset mnist --transforms deduplicate --out quality.html
  lepton-lab quality --dataset digits --distance 0.02 --json

Nothing is trained. Exit status: 0 ready; 1 not ready; 2 refused.
"""
ERRORS_EXAMPLES = """
\b
Examples:
  lepton-lab labels --dataset mnist --model mnist_cnn --epochs 2 --lr 1e-2 --schedule one_cycle
  lepton-lab labels --dataset digits --model mlp --epochs 20 --out decisions.json --action relabel
  lepton-lab run --dataset digits --transforms '[{"mend": {"file": "decisions.json"}}]'

Each fold is a run. Ctrl-C stops them. Exit status: 0 done; 1 a run failed; 2
refused, and nothing was started; 130 stopped.
"""


@click.command(cls=SpecCommand, epilog=QUALITY_EXAMPLES)
@spec_options(*CHAIN)
@click.option("--distance", type=float, default=0.0, show_default=True, help="How far apart duplicates may be.")
@click.option("--out", type=click.Path(path_type=Path), help="Write a page that ends in .html, too.")
@as_json
def quality(fields: Fields, distance: float, out: Path | None, as_json: bool) -> None:
    """Say whether a data set is ready to be trained on, and why."""
    from ..studies.quality import quality as look

    found = look(fields.spec(), distance=distance)
    if as_json:
        checks = found.frame().to_dict("records")
        click.echo(json.dumps({"ready": found.ready, "sentence": found.sentence, "checks": checks}, indent=1))
    else:
        click.echo(found.section().text)
    if out:
        click.echo(found.save(out), err=as_json)
    raise SystemExit(0 if found.ready else 1)


@click.command("labels", cls=SpecCommand, epilog=ERRORS_EXAMPLES, short_help="Find labels that are wrong.")
@spec_options(*CHAIN)
@click.option("--folds", type=int, default=3, show_default=True, help="How many models are trained.")
@click.option("--out", type=click.Path(path_type=Path), help="Write a file of decisions, for the transform mend.")
@click.option("--action", default="keep", show_default=True, help="What it decides of all: keep, relabel or drop.")
@on_option
@as_json
def label_errors(fields: Fields, folds: int, out: Path | None, action: str, on: Launcher, as_json: bool) -> None:
    """Find training labels that are wrong, by models that were not trained on the sample."""
    from ..studies.label_errors import check_action, find_label_errors

    check_action(action)
    errors = find_label_errors(fields.spec(), folds, on=on)
    try:
        errors.wait()
    except KeyboardInterrupt:
        errors.stop()
        raise SystemExit(EXIT["stopped"]) from None
    if failed := next((run for run in errors.runs if run.state != "done"), None):
        raise click.ClickException(f"run {failed.id!r} is {failed.state}: {failed.failure or 'it did not end'}")
    frame = errors.frame()
    if as_json:
        click.echo(json.dumps({"fraction": errors.fraction, "suspicious": frame.to_dict("records")}, indent=1))
    else:
        click.echo(f"{errors.sentence}\n\n{frame.head(20).to_string(index=False) if len(frame) else ''}")
    if out:
        click.echo(errors.decisions(action).save(out), err=as_json)
