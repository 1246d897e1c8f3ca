"""The form: one control for each field of a Spec, built from Spec and the tables."""

from __future__ import annotations

import json
import typing
from collections.abc import Callable, Iterator
from html import escape
from typing import Any

import ipywidgets as ipw

from lepton_lab.optimizers import factor
from lepton_lab.spec import CELL, TABLES, Spec, SpecError, table
from lepton_lab.supervisor import devices

from .advisor import brief, refusals

LABELS = {
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
    "timeout": "Wait for a rank (seconds)",
    "device": "Device",
    "compile": "Compile the model",
    "options": "Options",
    "parent": "Parent run",
    "compress": "Compress",
}
MAIN = tuple(LABELS)[:11]
MORE = tuple(LABELS)[11:]
DESCRIBED = ("dataset", "model", "optimizer", "schedule")
NOMINAL = 100
"""Steps an epoch for the preview of a schedule, where the true number is not known before the data is read."""


class Form:
    """Controls that hold a Spec.

    Parameters
    ----------
    spec : Spec
        What the controls show at first.
    own : dict
        Names of objects of the user's own by field, e.g. ``{"model": "cell:MyNet"}``; each is offered
        beside the table's entries.
    changed : callable
        Called without arguments after a control has changed.
    """

    def __init__(self, spec: Spec, own: dict[str, str], changed: Callable[[], None]) -> None:
        self._own = own
        self.controls = {field: self._control(field, getattr(spec, field)) for field in LABELS}
        self._quiet = False
        for control in self.controls.values():
            control.observe(lambda _: self._quiet or changed(), names="value")

    def read(self) -> Spec:
        """The spec that the controls show.

        Raises
        ------
        SpecError
            If a value is refused, or this machine can't do it.
        """
        spec = Spec(**self._values())
        spec.check_strategy()
        devices.choose(spec)
        return spec

    def _values(self) -> dict[str, Any]:
        values = {field: control.value for field, control in self.controls.items()}
        return {
            **values,
            "options": _parse_options(values["options"]),
            "compress": _parse_chain(values["compress"]),
        }

    def grey(self) -> None:
        """Say beside each strategy that can't be chosen what stands in its way; the stylesheet greys it out."""
        refused = refusals(self._values())
        names = [
            (f"{label} \u2014 not with {brief(refused[name])}" if name in refused else label, name)
            for label, name in self._names("strategy")
        ]
        control = self.controls["strategy"]
        if names != list(control.options):
            chosen, self._quiet = control.value, True
            control.options = names
            control.value = chosen
            self._quiet = False

    def show(self, spec: Spec) -> None:
        """Set the controls to a spec."""
        for field, control in self.controls.items():
            control.value = _shown(getattr(spec, field), control)

    def mark(self, refused: set[str]) -> None:
        """Mark the controls of refused fields, and no others."""
        for field, control in self.controls.items():
            (control.add_class if field in refused else control.remove_class)("ll-refused")

    def _control(self, field: str, value: Any) -> ipw.Widget:
        common = {"description": LABELS[field], "tooltip": Spec.model_fields[field].description or ""}
        if field == "options":
            common["placeholder"] = "dropout: 0.2"
        if field == "compress":
            common["placeholder"] = "prune: 0.5, quantize: int8"
        names = list(self._names(field))
        if names:
            return ipw.Dropdown(options=names, value=value, **common)
        if isinstance(value, bool):
            return ipw.Checkbox(value=value, indent=False, **common)
        text = ipw.Text(continuous_update=False, **common)
        text.value = _shown(value, text)
        return text

    def _names(self, field: str) -> Iterator[tuple[str, str]]:
        if field in self._own:
            yield self._own[field].removeprefix(CELL) + " (this notebook)", self._own[field]
        if field in TABLES:
            yield from ((name, name) for name in table(field))
        elif typing.get_origin(Spec.model_fields[field].annotation) is typing.Literal:
            yield from ((name, name) for name in typing.get_args(Spec.model_fields[field].annotation))


def _shown(value: Any, control: ipw.Widget) -> Any:
    if not isinstance(control, ipw.Text):
        return value
    if isinstance(value, list):
        return ", ".join(json.dumps(link)[1:-1] for link in value)
    if isinstance(value, dict):
        return ", ".join(f"{name}: {item}" for name, item in value.items())
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)


def _parse_options(text: str) -> dict[str, Any]:
    import yaml

    try:
        options = yaml.safe_load(f"{{{text}}}")
    except yaml.YAMLError:
        options = None
    if not isinstance(options, dict) or None in options.values():
        raise SpecError(f"options={text!r}: must be pairs of name and value, such as dropout: 0.2, hidden: 256")
    return {str(name): value for name, value in options.items()}


def _parse_chain(text: str) -> list[Any]:
    """Links as `prune: 0.5, quantize: int8`, in order; one may come twice."""
    import yaml

    try:
        return yaml.safe_load(f"[{text}]")
    except yaml.YAMLError:
        raise SpecError(f"compress={text!r}: must be links such as prune: 0.5, quantize: int8") from None


def describe(spec: Spec) -> str:
    """HTML list of what the chosen entries are: the first lines of their docstrings."""
    items = []
    for field in DESCRIBED:
        name = getattr(spec, field)
        entry = table(field).get(name)
        text = (entry.__doc__ or "").strip().split("\n")[0] if entry else "Yours, defined in this notebook."
        shown = f"<b>{escape(name.removeprefix(CELL))}</b> {escape(text)}"
        items.append(f"<div><dt>{LABELS[field]}</dt><dd>{shown}</dd></div>")
    return f"<dl class='ll-choices'>{''.join(items)}</dl>"


def preview(spec: Spec, width: int = 300, height: int = 84) -> str:
    """Inline SVG of the learning rate over the run."""
    total = spec.epochs * NOMINAL
    low, high = height - 6, 18  # room above the peak, which else looks cut off
    steps = sorted({round(i * (total - 1) / 240) for i in range(241)})
    points = [
        f"{4 + (width - 8) * step / max(1, total - 1):.1f},{low - (low - high) * factor(spec, step, total):.1f}"
        for step in steps
    ]
    title = f"Learning rate over the run: schedule {spec.schedule}, at most {spec.lr:g}"
    return (
        f"<figure class='ll-preview'><figcaption>Learning rate, at most {spec.lr:g}</figcaption>"
        f"<svg viewBox='0 0 {width} {height}' preserveAspectRatio='none' role='img' aria-label='{escape(title)}'>"
        f"<path class='ll-base' d='M4 {low}H{width - 4}'/><polyline points='{' '.join(points)}'/></svg>"
        f"<small>Drawn for {NOMINAL} steps an epoch, epochs: {spec.epochs}</small></figure>"
    )


def code(spec: Spec) -> str:
    """Python that launches the spec; only what differs from the defaults is named."""
    default = Spec().to_dict()
    names = [f"{name}={value!r}" for name, value in spec.to_dict().items() if value != default[name]]
    return f"lab.launch(lab.Spec({', '.join(names)}))"
