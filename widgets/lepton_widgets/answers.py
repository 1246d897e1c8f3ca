"""What a run's predictions show below a cell: some of the samples, one a row, as the model answered them."""

from __future__ import annotations

from lepton_lab.charts.cards import tabled
from lepton_lab.charts.samples import of_split
from lepton_lab.metrics import SPLITS
from lepton_lab.run.predictions import Predictions
from lepton_lab.section import escaped

ROWS = 5


def show(predictions: Predictions) -> None:
    """Display them below the cell that runs."""
    from IPython.display import display

    display({"text/html": html(predictions), "text/plain": repr(predictions)}, raw=True)


def html(predictions: Predictions) -> str:
    """How many there are, and the worst in the task's own form; the first where no loss of each is known."""
    head = f"{len(predictions):,} samples of the {SPLITS[predictions.split]} set"
    kept = of_split(predictions.run.path, predictions.split)
    if kept is None or not (groups := kept.groups()):
        return f"<p>{escaped(head)}</p>"
    name, cards = groups[-1]
    what = name.split(", ", 1)[1]
    return f"<p>{escaped(head)}; {escaped(what)}:</p>{tabled(cards[:ROWS])}"
