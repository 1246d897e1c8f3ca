"""What compressions came to: the estimate beside what was measured, and what it has to be compared with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..chains import chain_name
from ..errors import LabError
from ..metrics import MEASURED
from ..run.estimates import estimated, label, measured, shown
from ..section import NONE, Section, escaped, table

if TYPE_CHECKING:
    from ..run.handle import Run

COLUMNS = ["", "dense", "estimate", "measured", "error of the estimate", "less than dense"]
NOTE = (
    "Estimate: made before the run, without running anything; its latency is a prediction. Accuracy: of the test set, "
    "with its Wilson 95 % interval. Control: the dense model, trained on for as many epochs as the chain trained."
)
PEERS = (
    "In turn with it, in one process and on the same samples. A speed-up counts against the fastest of them at that "
    "batch size, which is marked."
)


def compressions(runs: list[Run]) -> Section:
    """Each run that compressed: estimate beside measured, peers and control; nothing of runs that did not."""
    sections = [compression(run) for run in runs if run.spec.compress and measured(run)]
    return Section("".join(s.html for s in sections), "\n\n".join(s.text for s in sections))


def compression(run: Run) -> Section:
    """One run that compressed."""
    told = measured(run)
    if not told:
        return Section("", f"{run.id} has measured nothing yet: it does so at its end")
    title = f"{run.name or run.id}: {chain_name(run.spec.compress)}"
    found = table(title, COLUMNS, rows(run), f"{NOTE} {_how(told['artifact'])}", numeric=True)
    peers = told["artifact"].get("peers") or []
    if not peers:
        return Section(f"<h3>{escaped(title)}</h3>{found.html}", found.text)
    below = _peers(told["artifact"], peers)
    return Section(f"<h3>{escaped(title)}</h3>{found.html}{below.html}", f"{found.text}\n{below.text}")


def rows(run: Run) -> list[list[str]]:
    """Lines of the table of one run: cells in the order of COLUMNS."""
    told = measured(run)
    made, dense, control = told["artifact"], told["dense"], told.get("control") or {}
    try:
        guess = estimated(run)
    except LabError:  # code that it was shipped with can't be had here
        guess = None
    figures = guess.figures() if guess else dict.fromkeys(_names(made))
    errors = guess.errors(made) if guess else {}
    lines = []
    for name, value in figures.items():
        is_, was = _value(made, name), _value(dense, name)
        error = f"{errors[name]:+.1%}" if name in errors else NONE
        less = f"{was / is_:.3g}x" if is_ and was else NONE
        lines.append([label(name).replace(" (predicted)", ""), shown(name, was), shown(name, value), shown(name, is_)])
        lines[-1] += [error, less]
    lines.append([MEASURED, _accuracy(dense), NONE, _accuracy(made), NONE, NONE])
    if MEASURED in (control.get("test") or {}):
        lines.append(["accuracy of the control", f"{control['test'][MEASURED]:.2%}", NONE, NONE, NONE, NONE])
    memory = [f"{told_['memory'] / 1e6:.1f} MB" if told_.get("memory") else NONE for told_ in (dense, made)]
    lines.append(["memory of a pass", memory[0], NONE, memory[1], NONE, NONE])
    energy = [f"{told_['joules'] * 1e3:.3g}" if told_.get("joules") else NONE for told_ in (dense, made)]
    lines.append(["mJ a sample (estimate)", energy[0], NONE, energy[1], NONE, NONE])
    return lines


def _peers(made: Mapping[str, Any], peers: list[Mapping[str, Any]]) -> Section:
    """The table of what took turns with it."""
    batches = list(made["latency"])
    best = {batch: min(peer["latency"][batch]["median"] for peer in peers) for batch in batches}
    lines = []
    for one in (made, *peers):
        cells = []
        for batch in batches:
            median = one["latency"][batch]["median"]
            mark = " (fastest peer)" if one is not made and median == best[batch] else ""
            ratio = f" ({best[batch] / median:.2f}x the fastest peer)" if one is made else ""
            cells.append(f"{median * 1e3:.3g} ms{mark}{ratio}")
        lines.append([one["name"], f"{one['bytes']:,}", *cells, _accuracy(one)])
    heads = ["model", "bytes", *(f"batch {batch}" for batch in batches), MEASURED]
    return table("Peers", heads, lines, PEERS, numeric=True)


def _value(told: Mapping[str, Any], name: str) -> float | None:
    if not name.startswith("latency "):
        return told.get(name)
    found = told["latency"].get(name.removeprefix("latency "))
    return found and found["median"]


def _names(told: Mapping[str, Any]) -> list[str]:
    return ["parameters", "multiply_adds", "bytes", *(f"latency {batch}" for batch in told["latency"])]


def _accuracy(told: Mapping[str, Any]) -> str:
    if told.get(MEASURED) is None:
        return NONE
    low, high = told["interval"]
    return f"{told[MEASURED]:.2%} ({low:.2%} to {high:.2%})"


def _how(told: Mapping[str, Any]) -> str:
    found = told.get("conditions") or {}
    if not found:
        return ""
    threads = f"{found['threads']} thread{'s' if found['threads'] != 1 else ''}"
    return f"Latency: median of {found['repeats']} repeats after {found['warmup']}, {threads} of {found['device']}."
