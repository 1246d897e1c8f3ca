"""The form: one control for each field of a Spec, built from Spec and the tables."""

from __future__ import annotations

import itertools
import json
import re
import typing
from collections.abc import Callable, Container, Iterator, Mapping
from typing import Any

import ipywidgets as ipw

from lepton_lab.datasets import load
from lepton_lab.errors import SpecError
from lepton_lab.launchers import HERE, Launcher
from lepton_lab.run.checks import glance
from lepton_lab.run.own import Own
from lepton_lab.spec import CELL, Spec
from lepton_lab.studies.previews import Preview
from lepton_lab.tables import TABLES, entries, entry_options, meant, table, trait

from .about import DESCRIBED, LABELS, first_line
from .advisor import brief, refusals
from .fitting import Fitting
from .options import Options
from .pieces import Several
from .places import Place
from .sources import Source, seen
from .steps import Steps

MAIN = tuple(LABELS)[:13]
MORE = tuple(LABELS)[13:]
CHAINED = ("parent", "compress", "checkpoint")
"""Fields of a run that compresses, which trains on pairs."""
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
    given : Own, optional
        The user's own itself.
    on : Launcher
        Where runs go at first.

    Attributes
    ----------
    controls : dict
        By field of Spec.
    place : Place
        Where runs go.
    """

    def __init__(
        self,
        spec: Spec,
        own: dict[str, str],
        changed: Callable[[], None],
        given: Own | None = None,
        on: Launcher = HERE,
    ) -> None:
        self._own, self._given = own, given or Own()
        self._data = self._given.splits(spec)
        self._fitting = Fitting(own, self._given, self._data)
        self._shown: tuple[Spec, Preview] | None = None
        self._quiet = False
        self._changed = lambda: self._quiet or changed()
        self.controls = {field: self._control(field, getattr(spec, field)) for field in LABELS}
        for field, control in self.controls.items():
            if field != "options":
                follow = self._follow if field == "task" else lambda: None
                control.observe(lambda _, follow=follow: (follow(), self._changed()), names="value")
        self.place = Place(on, self._changed)
        self.show(spec)

    def read(self) -> list[Spec]:
        """The specs that the controls show: one, or several where a field holds several values.

        Raises
        ------
        SpecError
            If a value is refused, or this machine can't do it.
        """
        values, axes = self._values()
        on = self.place.read()
        count = 1
        for field, several in axes.items():
            count *= len(several)
            if count > MOST:
                raise SpecError(f"{field}={', '.join(several)!r}: makes {count} runs, and at most {MOST} start at once")
        specs = []
        for chosen in itertools.product(*axes.values()):
            specs.append(Spec(**_with(values, dict(zip(axes, chosen, strict=True)))))
            own = self._data if specs[-1].dataset == self._own.get("dataset") else None
            glance(specs[-1], own, self._given, on)
        return specs

    def _values(self) -> tuple[dict[str, Any], dict[str, list[str]]]:
        """What the controls hold, and of the fields with several values, or options, all of them."""
        values = {field: control.value for field, control in self.controls.items()}
        values["compress"] = _parse_chain(values["compress"])
        texts = {field: values[field] for field in SEVERAL} | {f"options.{k}": v for k, v in values["options"].items()}
        several = {field: [part.strip() for part in str(text).split(",")] for field, text in texts.items()}
        axes = {field: parts for field, parts in several.items() if len(parts) > 1}
        return _with(values, {field: parts[0] for field, parts in axes.items()}), axes

    @property
    def chosen(self) -> dict[str, Any]:
        """Names by field, and the chain, whether they can go together or not."""
        names = {field: self.controls[field].value for field in (*DESCRIBED, "metrics", "transforms")}
        return names | {"compress": _parse_chain(self.controls["compress"].value)}

    @property
    def seen(self) -> str:
        """HTML of what lies at the path that the data set has; "" of one without."""
        return seen(self.controls["dataset"].value, self.controls["options"].value)

    def grey(self) -> None:
        """Offer what fits the task, and say beside models and strategies why else they can't be taken.

        The stylesheet greys these out, since ipywidgets can't disable a single entry of a list.
        """
        values, _ = self._values()
        task, dataset = values["task"], values["dataset"]
        self.controls["options"].offer(entries(values))
        fitting, unfit = self._fitting, f"task {task}"
        fitting.options, fitting.chosen = values["options"], values["transforms"]
        self._tell("task", fitting.tasks())
        self._tell("dataset", {name: unfit for name in table("dataset") if not fitting.data(task, name)}, unfit)
        self._tell("model", fitting.models(task, dataset), unfit)
        self._tell("strategy", {name: brief(why) for name, why in refusals(values, self._given).items()}, unfit)
        fits = fitting.transforms(dataset)
        self.controls["transforms"].offer({name: first_line(table("transform")[name]) for name in fits})
        about = {name: first_line(table("metric")[name]) for name in fitting.metrics(task, dataset)}
        self.controls["metrics"].offer(about)
        average = str(values["ema"]) not in ("", "0")
        self.controls["keep_best"].options = fitting.figures(task, dataset, values["metrics"], average)
        chains = trait("task", meant(task, dataset), "plain") is not False or bool(
            values["parent"] or values["compress"]
        )
        for field in CHAINED:
            self.controls[field].layout.display = None if chains else "none"

    def _follow(self) -> None:
        """After another task, choose data, a model and a precision that fit it, where those that are chosen do not."""
        if self._quiet:
            return
        control, self._quiet = self.controls, True
        task, fitting = control["task"].value, self._fitting
        if not fitting.data(task, control["dataset"].value):
            self._first("dataset", {name for _, name in self._names("dataset") if not fitting.data(task, name)})
        unfit = fitting.models(task, control["dataset"].value)
        if control["model"].value in unfit:
            self._first("model", unfit)
        counted = fitting.metrics(task, control["dataset"].value)
        control["metrics"].value = [name for name in control["metrics"].value if name in counted]
        steps = trait("task", task, "steps")
        if steps and steps() and control["precision"].value == "auto":
            control["precision"].value = "fp32"
        self._quiet = False

    def _first(self, field: str, unfit: Container[str]) -> None:
        """Choose the first of a field's names that fits; where none does what is chosen stays."""
        names = [(label, name) for label, name in self._names(field)]
        fit = next((name for _, name in names if name not in unfit), None)
        if fit is not None:
            self.controls[field].options = names
            self.controls[field].value = fit

    def _tell(self, field: str, obstacles: Mapping[str, str], hidden: str = "") -> None:
        """Put what stands in the way of some names of a list beside them; those whom a ``hidden`` obstacle does go."""
        control = self.controls[field]
        names = [
            (f"{label} \u2014 not with {obstacles[name]}" if name in obstacles else label, name)
            for label, name in self._names(field)
            if obstacles.get(name, "") != hidden or not hidden or name == control.value
        ]
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
        refused = {re.split(r"\W", line, maxsplit=1)[0] for line in sentences.splitlines()}
        self.place.mark(refused)
        options = set(re.findall(r"options=\{'(\w+)'", sentences))
        for field, control in self.controls.items():
            if field == "options":
                control.mark(options)
            elif field == "dataset":
                control.mark(field in refused)
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
            return Several(**common)
        if field == "transforms":
            return Steps(**common, draw=self._previewed)
        if field == "keep_best":
            return ipw.Combobox(value=value, continuous_update=False, **common)
        names = list(self._names(field))
        if field == "dataset":
            return Source(names, value, **common)
        if names:
            return ipw.Dropdown(options=names, value=value, **common)
        if isinstance(value, bool):
            return ipw.Checkbox(value=value, indent=False, **common)
        text = ipw.Text(continuous_update=False, **common)
        if field in EXAMPLES:
            text.add_class("ll-wide")
        text.value = _shown(value, text)
        return text

    def _previewed(self, transforms: list[dict[str, Any]]) -> Preview:
        """Some samples of what is chosen; data are read when first asked for, and again where others are chosen."""
        values, _ = self._values()
        options = entry_options("dataset", values["dataset"])
        given = {option: value for option, value in values["options"].items() if option in options}
        spec = Spec(dataset=values["dataset"], seed=values["seed"], options=given)
        if self._shown is None or self._shown[0] != spec:
            own = values["dataset"] == self._own.get("dataset")
            raw = self._given.raw(spec) if own else load(spec)
            self._shown = spec, Preview(spec, raw)
        return self._shown[1].show(spec.replace(transforms=transforms))

    def _names(self, field: str) -> Iterator[tuple[str, str]]:
        if field in self._own:
            yield self._own[field].removeprefix(CELL) + " (yours)", self._own[field]
        if field in TABLES:
            yield from ((name, name) for name in table(field))
        elif typing.get_origin(Spec.model_fields[field].annotation) is typing.Literal:
            yield from ((name, name) for name in typing.get_args(Spec.model_fields[field].annotation))


def _shown(value: Any, control: ipw.Widget) -> Any:
    if isinstance(control, (Several, Steps)):
        return [*value]
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
