"""What a form's choice is, in words, as a picture of its learning rate, and as code that repeats it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from lepton_lab.links import LISTS
from lepton_lab.optimizers import factor
from lepton_lab.spec import CELL, OWN, Spec
from lepton_lab.tables import table

from .pieces import terms

LABELS = {
    "task": "Task",
    "dataset": "Data set",
    "model": "Model",
    "optimizer": "Optimizer",
    "lr": "Learning rate",
    "schedule": "Schedule",
    "epochs": "Epochs",
    "batch_size": "Batch size",
    "strategy": "Strategy",
    "world": "Workers",
    "precision": "Precision",
    "seed": "Seed",
    "name": "Name of the run",
    "weight_decay": "Weight decay",
    "momentum": "Momentum",
    "warmup": "Warm-up steps",
    "clip": "Clip gradient at",
    "accumulate": "Accumulate",
    "eval_every": "Evaluate every (epochs)",
    "checkpoint_every": "Checkpoint every (epochs)",
    "keep_best": "Keep the best by",
    "stop_early": "Stop early",
    "ema": "Average weights (decay)",
    "workers": "Loading processes (-1: auto)",
    "prefetch": "Batches loaded ahead (0: auto)",
    "timeout": "Wait for a rank (seconds)",
    "device": "Device",
    "compile": "Compile it",
    "transforms": "Transforms",
    "metrics": "Metrics",
    "options": "Options",
    "parent": "Parent run",
    "compress": "Compress",
    "checkpoint": "Parent's model",
}
DESCRIBED = ("task", "dataset", "model", "optimizer", "schedule", "strategy")
NOMINAL = 100
"""Steps an epoch for the preview of a schedule, where the true number is not known before the data is read."""
WIDE, HIGH = 300, 84  # units of that preview


def first_line(entry: Any) -> str:
    """What an entry of a table says of itself first."""
    return (entry.__doc__ or "").strip().split("\n")[0]


def describe(chosen: Mapping[str, Any], more: Iterable[tuple[str, str]] = ()) -> str:
    """HTML list of what the chosen entries are: the first lines of their docstrings.

    Parameters
    ----------
    chosen : mapping
        Names by field, lists of links as ``compress`` and ``transforms``, and a list as ``metrics``.
    more : iterable
        Rows beside: a term and its HTML.
    """
    rows = [(LABELS[field], meaning(chosen[field], table(field).get(chosen[field]))) for field in DESCRIBED]
    for field, words in LISTS.items():
        links = [name for link in chosen[field] for name in (link if isinstance(link, Mapping) else [str(link)])]
        known = {name: table(words.family)[name] for name in links if name in table(words.family)}
        rows += [(LABELS[field], meaning(name, entry)) for name, entry in known.items()]
    rows += [(LABELS["metrics"], meaning(n, table("metric")[n])) for n in chosen["metrics"]]
    return terms("choices", [*rows, *more])


def meaning(name: str, entry: Any) -> str:
    """HTML of what an entry of a table is; a name of a cell's is the user's own."""
    text = first_line(entry) if entry else "Yours, defined in this notebook." if name.startswith(CELL) else ""
    return f"<b>{escape(name.removeprefix(CELL))}</b> {escape(text)}"


def preview(spec: Spec) -> str:
    """Inline SVG of the learning rate over the run."""
    total, at = spec.epochs * NOMINAL, factor(spec)
    low, high = HIGH - 6, 18  # room above the peak, which else looks cut off
    steps = sorted({round(i * (total - 1) / 240) for i in range(241)})
    points = [
        f"{4 + (WIDE - 8) * step / max(1, total - 1):.1f},{low - (low - high) * at(step, total):.1f}" for step in steps
    ]
    title = f"Learning rate over the run: schedule {spec.schedule}, at most {spec.lr:g}"
    return (
        f"<figure class='ll-preview'><figcaption>Learning rate, at most {spec.lr:g}</figcaption>"
        f"<svg viewBox='0 0 {WIDE} {HIGH}' preserveAspectRatio='none' role='img' aria-label='{escape(title)}'>"
        f"<path class='ll-base' d='M4 {low}H{WIDE - 4}'/><polyline points='{' '.join(points)}'/></svg>"
        f"<small>Drawn for {NOMINAL} steps an epoch, epochs: {spec.epochs}</small></figure>"
    )


def code(*specs: Spec, own: Mapping[str, str] = {}, on: str = "") -> str:
    """Python that launches specs that differ in some fields; only what differs from the defaults is named.

    Parameters
    ----------
    own : mapping
        By part of ``lab.launch`` what the user's own is called, e.g. ``{"model": "MyNet"}``.
    on : str
        Where they run, as code; "" for this machine.
    """
    default, all_of = Spec().to_dict(), [spec.to_dict() for spec in specs]
    varied = [name for name in default if any(values[name] != all_of[0][name] for values in all_of)]
    mine = {OWN[part] for part in own if part in OWN}
    fixed = {name: repr(value) for name, value in all_of[0].items() if value != default[name] and name not in mine}
    names = ", ".join(f"{name}={text}" for name, text in {**fixed, **dict(zip(varied, varied, strict=True))}.items())
    parts = "".join(f", {part}={text}" for part, text in own.items())
    parts += f", on={on}" if on else ""
    spec = f"lab.Spec({names})"
    loops = (f"for {name} in {_distinct([values[name] for values in all_of])!r}" for name in varied)
    if varied:
        spec = f"[{spec} {' '.join(loops)}]"
    return f"lab.launch({spec}{parts})"


def _distinct(values: list[Any]) -> list[Any]:
    """Values in their order, each once; they need not be hashable."""
    return [value for i, value in enumerate(values) if value not in values[:i]]
