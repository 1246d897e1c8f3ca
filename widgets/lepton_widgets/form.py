"""The form: one control for each field of a Spec, built from Spec and the tables."""

from __future__ import annotations

import itertools
import json
import re
import typing
from collections.abc import Callable, Iterator, Mapping
from html import escape
from typing import Any

import ipywidgets as ipw

from lepton_lab.errors import SpecError
from lepton_lab.optimizers import factor
from lepton_lab.run.checks import glance
from lepton_lab.spec import CELL, OWN, Spec
from lepton_lab.tables import TABLES, entries, listed, table

from .advisor import brief, refusals
from .options import Options
from .pieces import terms

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
    "task": "Task",
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
    "metrics": "Metrics",
    "options": "Options",
    "parent": "Parent run",
    "compress": "Compress",
    "checkpoint": "Parent's model",
}
MAIN = tuple(LABELS)[:12]
MORE = tuple(LABELS)[12:]
DESCRIBED = ("dataset", "model", "optimizer", "schedule", "strategy")
EXAMPLES = {
    "compress": "prune: 0.5, quantize: int8",
    "keep_best": "val_accuracy",
    "stop_early": "metric: val_loss, patience: 3",
}
"""What an empty field shows, where its form is not plain from its name."""
SEVERAL = ("lr", "epochs", "batch_size", "world", "seed", "weight_decay", "momentum", "warmup", "clip", "accumulate")
"""Fields that may hold several values, with commas between: a run for each."""
MOST = 32
"""Runs that a form asks for at once."""
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
    data : Data, optional
        The user's own, of which the form knows which models suit it.
    """

    def __init__(self, spec: Spec, own: dict[str, str], changed: Callable[[], None], data: Any = None) -> None:
        self._own, self._data = own, data
        self._quiet = False
        self._changed = lambda: self._quiet or changed()
        self.controls = {field: self._control(field, getattr(spec, field)) for field in LABELS}
        for field, control in self.controls.items():
            if field != "options":
                control.observe(lambda _: self._changed(), names="value")
        self.show(spec)

    def read(self) -> list[Spec]:
        """The specs that the controls show: one, or several where a field holds several values.

        Raises
        ------
        SpecError
            If a value is refused, or this machine can't do it.
        """
        values, axes = self._values()
        count = 1
        for field, several in axes.items():
            count *= len(several)
            if count > MOST:
                raise SpecError(f"{field}={', '.join(several)!r}: makes {count} runs, and at most {MOST} start at once")
        specs = []
        for chosen in itertools.product(*axes.values()):
            specs.append(Spec(**_with(values, dict(zip(axes, chosen, strict=True)))))
            glance(specs[-1], self._data if specs[-1].dataset == self._own.get("dataset") else None)
        return specs

    def _values(self) -> tuple[dict[str, Any], dict[str, list[str]]]:
        """What the controls hold, and of the fields with several values, or options, all of them."""
        values = {field: control.value for field, control in self.controls.items()}
        values["compress"] = _parse_chain(values["compress"])
        values["metrics"] = listed("metric", values["metrics"])
        texts = {field: values[field] for field in SEVERAL} | {f"options.{k}": v for k, v in values["options"].items()}
        several = {field: [part.strip() for part in str(text).split(",")] for field, text in texts.items()}
        axes = {field: parts for field, parts in several.items() if len(parts) > 1}
        return _with(values, {field: parts[0] for field, parts in axes.items()}), axes

    @property
    def chosen(self) -> dict[str, Any]:
        """Names by field, and the chain, whether they can go together or not."""
        chain = _parse_chain(self.controls["compress"].value)
        names = listed("metric", self.controls["metrics"].value)
        return {field: self.controls[field].value for field in DESCRIBED} | {"compress": chain, "metrics": names}

    def grey(self) -> None:
        """Offer the options of what is chosen, and say beside models and strategies that can't be taken why not.

        The stylesheet greys these out, since ipywidgets can't disable a single entry of a list.
        """
        values, _ = self._values()
        self.controls["options"].offer(entries(values))
        self._tell("model", dict.fromkeys(self._unsuited(values), f"data set {values['dataset'].removeprefix(CELL)}"))
        self._tell("strategy", {name: brief(why) for name, why in refusals(values).items()})

    def _unsuited(self, values: Mapping[str, Any]) -> list[str]:
        """Models of the table that can make nothing of the chosen data set."""
        own = values["dataset"] == self._own.get("dataset")
        if own and self._data is None:
            return []
        data = self._data
        sample = data.sample if own else table("dataset")[values["dataset"]].sample
        return [name for name, maker in table("model").items() if maker.refuse(*sample)]

    def _tell(self, field: str, obstacles: Mapping[str, str]) -> None:
        """Put what stands in the way of some names of a list beside them."""
        names = [
            (f"{label} \u2014 not with {obstacles[name]}" if name in obstacles else label, name)
            for label, name in self._names(field)
        ]
        control = self.controls[field]
        if names != list(control.options):
            chosen, self._quiet = control.value, True
            control.options = names
            control.value = chosen
            self._quiet = False

    def show(self, spec: Spec) -> None:
        """Set the controls to a spec."""
        self._quiet = True
        for field, control in self.controls.items():
            if field != "options":
                control.value = _shown(getattr(spec, field), control)
        self.controls["options"].offer(entries(vars(spec)))
        self.controls["options"].show(spec.options)
        self._quiet = False
        self._changed()

    def mark(self, sentences: str) -> set[str]:
        """Mark the controls that refusals are about, and no others; returns their fields."""
        refused = {line.split("=")[0] for line in sentences.splitlines()}
        options = set(re.findall(r"options=\{'(\w+)'", sentences))
        for field, control in self.controls.items():
            if field == "options":
                control.mark(options)
            else:
                (control.add_class if field in refused else control.remove_class)("ll-refused")
        return refused

    def _control(self, field: str, value: Any) -> ipw.Widget:
        common = {"description": LABELS[field], "tooltip": Spec.model_fields[field].description or ""}
        if field in SEVERAL:
            common["tooltip"] += " Several, with commas between, launch a run for each."
        if field == "options":
            return Options(self._changed)
        if field in EXAMPLES:
            common["placeholder"] = EXAMPLES[field]
        if field == "metrics":
            common["placeholder"] = ", ".join([n for n, metric in table("metric").items() if not metric.usual][:2])
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
            yield self._own[field].removeprefix(CELL) + " (yours)", self._own[field]
        if field in TABLES:
            yield from ((name, name) for name in table(field))
        elif typing.get_origin(Spec.model_fields[field].annotation) is typing.Literal:
            yield from ((name, name) for name in typing.get_args(Spec.model_fields[field].annotation))


def _shown(value: Any, control: ipw.Widget) -> Any:
    if not isinstance(control, ipw.Text):
        return value
    if isinstance(value, dict):
        return json.dumps(value)[1:-1]
    if isinstance(value, list):
        return ", ".join(json.dumps(item)[1:-1] if isinstance(item, dict) else item for item in value)
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)


def _with(values: dict[str, Any], changes: dict[str, str]) -> dict[str, Any]:
    """Values with some fields changed, or options, by names such as "options.dropout"."""
    options = {name.removeprefix("options."): text for name, text in changes.items() if "." in name}
    fields = {name: text for name, text in changes.items() if "." not in name}
    return {**values, **fields, "options": {**values["options"], **options}}


def _parse_chain(text: str) -> list[Any]:
    """Links as `prune: 0.5, quantize: int8`, in order; one may come twice."""
    import yaml

    try:
        return yaml.safe_load(f"[{text}]")
    except yaml.YAMLError:
        raise SpecError(f"compress={text!r}: must be links such as prune: 0.5, quantize: int8") from None


def describe(chosen: Mapping[str, Any]) -> str:
    """HTML list of what the chosen entries are: the first lines of their docstrings.

    Parameters
    ----------
    chosen : mapping
        Names by field, the chain as ``compress``, and a list as ``metrics``.
    """
    rows = [(LABELS[field], meaning(chosen[field], table(field).get(chosen[field]))) for field in DESCRIBED]
    links = [name for link in chosen["compress"] for name in (link if isinstance(link, Mapping) else [str(link)])]
    known = {name: table("compressor")[name] for name in links if name in table("compressor")}
    rows += [(LABELS["compress"], meaning(name, entry)) for name, entry in known.items()]
    return terms("choices", rows + [(LABELS["metrics"], meaning(n, table("metric")[n])) for n in chosen["metrics"]])


def meaning(name: str, entry: Any) -> str:
    """HTML of what an entry of a table is; an entry that no table has is the user's own."""
    text = (entry.__doc__ or "").strip().split("\n")[0] if entry else "Yours, defined in this notebook."
    return f"<b>{escape(name.removeprefix(CELL))}</b> {escape(text)}"


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


def code(*specs: Spec, own: Mapping[str, str] = {}) -> str:
    """Python that launches specs that differ in some fields; only what differs from the defaults is named.

    Parameters
    ----------
    own : mapping
        By part of ``lab.launch`` what the user's own is called, e.g. ``{"model": "MyNet"}``.
    """
    default, all_of = Spec().to_dict(), [spec.to_dict() for spec in specs]
    varied = [name for name in default if any(values[name] != all_of[0][name] for values in all_of)]
    mine = {OWN[part] for part in own if part in OWN}
    fixed = {name: repr(value) for name, value in all_of[0].items() if value != default[name] and name not in mine}
    names = ", ".join(f"{name}={text}" for name, text in {**fixed, **dict(zip(varied, varied, strict=True))}.items())
    parts = "".join(f", {part}={text}" for part, text in own.items())
    launch = f"lab.launch(lab.Spec({names}){parts})"
    if not varied:
        return launch
    loops = (f"for {name} in {_distinct([values[name] for values in all_of])!r}" for name in varied)
    return f"[{launch} {' '.join(loops)}]"


def _distinct(values: list[Any]) -> list[Any]:
    """Values in their order, each once; they need not be hashable."""
    return [value for i, value in enumerate(values) if value not in values[:i]]
