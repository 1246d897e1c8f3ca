"""What compressions came to: the estimate beside what was measured, and what it has to be compared with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..chains import chain_name
from ..errors import LabError
from ..measures import judged, of_control
from ..metrics import MEASURED, METRICS
from ..run.estimates import estimated, figures, label, measured, shown
from ..section import NONE, Section, escaped, table

if TYPE_CHECKING:
    from ..run.handle import Run

COLUMNS = ["", "dense", "estimate", "measured", "error of the estimate", "less than dense"]
NOTE = (
    "Estimate: made before the run, without running anything; its latency is a prediction. Accuracy, or what the task "
    "is judged by: of the test set; an accuracy with its Wilson 95 % interval. Control: the dense model, trained on "
    "for as many epochs as the chain trained."
)
PEERS = (
    "In turn with it, in one process and on the same samples. A speed-up counts against the fastest of them at that "
    "batch size, which is marked."
)


def compressions(runs: list[Run]) -> Section:
    """Each run that compressed: estimate beside measured, peers and control; nothing of runs that did not."""
    pairs = [(run, measured(run)) for run in runs if run.spec.compress]
    sections = [_compression(run, measures) for run, measures in pairs if measures]
    return Section("".join(s.html for s in sections), "\n\n".join(s.text for s in sections))


def _compression(run: Run, measures: Mapping[str, Any]) -> Section:
    """One run that compressed."""
    made = measures["artifact"]
    title = f"{run.name or run.id}: {chain_name(run.spec.compress)}"
    pieces = [table(title, COLUMNS, _rows(run, measures), f"{NOTE} {_how(made)}", numeric=True)]
    if peers := made.get("peers"):
        pieces.append(_peers(made, peers))
    html = "".join(piece.html for piece in pieces)
    return Section(f"<h3>{escaped(title)}</h3>{html}", "\n".join(piece.text for piece in pieces))


def _rows(run: Run, measures: Mapping[str, Any]) -> list[list[str]]:
    """Lines of the table of one run: cells in the order of COLUMNS."""
    made, dense = measures["artifact"], measures["dense"]
    try:
        guess = estimated(run)
    except LabError:  # code that it was shipped with can't be had here
        guess = None
    smaller, larger = figures(made), figures(dense)
    predicted = guess.figures() if guess else dict.fromkeys(smaller)
    errors = guess.errors(made) if guess else {}
    lines = []
    for name, value in predicted.items():
        after, before = smaller.get(name), larger.get(name)
        error = f"{errors[name]:+.1%}" if name in errors else NONE
        less = f"{before / after:.3g}x" if after and before else NONE
        head = label(name).replace(" (predicted)", "")
        lines.append([head, shown(name, before), shown(name, value), shown(name, after), error, less])
    metric = made.get("metric") or MEASURED
    others = [[METRICS[metric].word(), _quality(dense, metric), _quality(made, metric)]]
    if metric != MEASURED and made.get(MEASURED) is not None:
        others.append([MEASURED, _quality(dense, MEASURED), _quality(made, MEASURED)])
    if (trained_on := of_control(measures, metric)) is not None:
        others.append([f"{METRICS[metric].word()} of the control", METRICS[metric].text(trained_on), NONE])
    memory = [f"{model['memory'] / 1e6:.1f} MB" if model.get("memory") else NONE for model in (dense, made)]
    energy = [f"{model['joules'] * 1e3:.3g}" if model.get("joules") else NONE for model in (dense, made)]
    others += [["memory of a pass", *memory], ["mJ a sample (estimate)", *energy]]
    return lines + [[head, before, NONE, after, NONE, NONE] for head, before, after in others]


def _peers(made: Mapping[str, Any], peers: list[Mapping[str, Any]]) -> Section:
    """The table of what took turns with it."""
    batches, metric = list(made["latency"]), made.get("metric") or MEASURED
    best = {batch: min(peer["latency"][batch]["median"] for peer in peers) for batch in batches}
    lines = []
    for one in (made, *peers):
        cells = []
        for batch in batches:
            median = one["latency"][batch]["median"]
            mark = " (fastest peer)" if one is not made and median == best[batch] else ""
            ratio = f" ({best[batch] / median:.2f}x the fastest peer)" if one is made else ""
            cells.append(f"{median * 1e3:.3g} ms{mark}{ratio}")
        lines.append([one["name"], f"{one['bytes']:,}", *cells, _quality(one, metric)])
    heads = ["model", "bytes", *(f"batch {batch}" for batch in batches), METRICS[metric].word()]
    return table("Peers", heads, lines, PEERS, numeric=True)


def _quality(measures: Mapping[str, Any], metric: str) -> str:
    """How good answers are by a metric, an accuracy with its interval."""
    figure = judged(measures, metric) or NONE
    if figure == NONE or metric != MEASURED or not measures.get("interval"):
        return figure
    low, high = measures["interval"]
    return f"{figure} ({low:.2%} to {high:.2%})"


def _how(measures: Mapping[str, Any]) -> str:
    how = measures.get("conditions") or {}
    if not how:
        return ""
    threads = f"{how['threads']} thread{'s' if how['threads'] != 1 else ''}"
    return f"Latency: median of {how['repeats']} repeats after {how['warmup']}, {threads} of {how['device']}."
