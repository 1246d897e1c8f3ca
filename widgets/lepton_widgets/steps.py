"""Chips of transforms, a slider for each of their parameters, and ten samples before and after."""

from __future__ import annotations

import math
import typing
from collections.abc import Callable, Mapping
from html import escape
from typing import Any

import ipywidgets as ipw
import traitlets

from lepton_lab.charts.cards import drawn
from lepton_lab.studies.previews import Preview
from lepton_lab.tables import keywords, table

from .about import first_line
from .newest import Newest
from .pieces import Several, button, refusal, sentence, styled
from .ranges import Range

STOPS = 30
"""Places of a slider, at least."""


class Steps(ipw.VBox):
    """A list of transforms; ``value`` has it as a Spec has.

    Chips choose them, in the order in which they are pressed, those that make data once first. Each that is pressed has
    a control for each of its parameters.

    Parameters
    ----------
    description, tooltip : str
        Its name, and what it is for.
    draw : callable
        Gives the Preview of a list of transforms; what it raises is shown.
    """

    value = traitlets.List(traitlets.Dict())

    def __init__(self, description: str, tooltip: str, draw: Callable[[list[dict[str, Any]]], Preview]) -> None:
        self.description = description
        self._controls: dict[str, dict[str, ipw.Widget]] = {}
        self._rows: dict[str, ipw.Widget] = {}
        self._quiet = False
        self._chips = Several(description, tooltip)
        self._chips.offer({name: first_line(entry) for name, entry in table("transform").items()})
        self._chips.observe(lambda _: self._gather(), names="value")
        self._parameters, self._drawn, self._why = styled(ipw.VBox(), "steps"), ipw.HTML(), ipw.HTML()
        self._open = False
        self._button = button("more", self._fold, description="Preview", tooltip="Ten samples before and after")
        self._newest: Newest[list[dict[str, Any]], str] = Newest(
            lambda chosen: drawn(draw(chosen).cards), self._show, "lepton-lab-preview"
        )
        actions = styled(ipw.Box([self._button, self._why]), "actions")
        super().__init__([self._chips, self._parameters, actions, self._drawn])
        styled(self, "transforms")
        self.observe(lambda _: self._follow(), names="value")
        self._arrange()

    def offer(self, names: Mapping[str, str]) -> None:
        """Offer those of some names, each with what it means, beside those that are pressed."""
        self._chips.offer(names)

    def redraw(self) -> None:
        """Draw the preview again, where it is open."""
        if self._open:
            self._newest.ask(list(self.value))

    def _fold(self) -> None:
        self._open = not self._open
        self._button.description = "No preview" if self._open else "Preview"
        if self._open:
            self.redraw()
        else:
            self._drawn.value = self._why.value = ""

    def _show(self, cards: str | None, error: Exception | None) -> None:
        if self._open:
            self._why.value = refusal("" if error is None else sentence(error))
            self._drawn.value = f"<div class='ll-drawn'>{cards}</div>" if cards else ""

    def _follow(self) -> None:
        """Set the chips and the controls to the value."""
        if self._quiet:
            return
        self._quiet = True
        self._chips.value = [name for item in self.value for name in item]
        self._arrange()
        given = {name: options for item in self.value for name, options in item.items()}
        for name, controls in self._controls.items():
            rules = keywords(table("transform")[name])
            for option, control in controls.items():
                control.value = given.get(name, {}).get(option, rules[option].default)
        self._quiet = False
        self.redraw()

    def _gather(self) -> None:
        """Take the value from the chips and the controls; a parameter that has its default is not named."""
        if self._quiet:
            return
        self._quiet = True
        self._arrange()
        self.value = [{name: self._options(name)} for name in self._ordered()]
        self._quiet = False
        self.redraw()

    def _ordered(self) -> list[str]:
        """Those that are pressed, first what makes data once."""
        return sorted(self._chips.value, key=lambda name: bool(table("transform")[name].augments))

    def _options(self, name: str) -> dict[str, Any]:
        known = keywords(table("transform")[name])
        values = {option: _value(control, known[option]) for option, control in self._controls[name].items()}
        return {option: value for option, value in values.items() if value != known[option].default}

    def _arrange(self) -> None:
        """Show the controls of those that are pressed, in their order."""
        for name in self._chips.value:
            if name not in self._controls:
                self._controls[name] = {
                    o: self._control(o, rule) for o, rule in keywords(table("transform")[name]).items()
                }
                self._rows[name] = _row(name, [*self._controls[name].values()])
        self._parameters.children = [self._rows[name] for name in self._ordered()]

    def _control(self, option: str, rule: Any) -> ipw.Widget:
        common = {"description": option.replace("_", " "), "tooltip": rule.description}
        control = _made(rule, common)
        control.observe(lambda _: self._gather(), names="value")
        return control


def _made(rule: Any, common: dict[str, str]) -> ipw.Widget:
    """A control for an option: a slider between bounds, a list of names, a box to tick, or else a text."""
    if rule.annotation is bool:
        return ipw.Checkbox(value=rule.default, indent=False, **common)
    if names := typing.get_args(rule.annotation):
        return ipw.Dropdown(options=[*names], value=rule.default, **common)
    low, high = _bound(rule, "ge", "gt"), _bound(rule, "le", "lt")
    if low is None or high is None or rule.annotation not in (int, float):
        return ipw.Text(value=str(rule.default), continuous_update=False, **common)
    step = 1.0 if rule.annotation is int else 10.0 ** math.floor(math.log10((high - low) / STOPS))
    low += step * any(hasattr(part, "gt") for part in rule.metadata)
    high -= step * any(hasattr(part, "lt") for part in rule.metadata)
    return Range(value=rule.default, min=low, max=high, step=step, plain=True, **common)


def _bound(rule: Any, *names: str) -> float | None:
    return next((float(getattr(part, name)) for part in rule.metadata for name in names if hasattr(part, name)), None)


def _value(control: ipw.Widget, rule: Any) -> Any:
    """What a control holds, as the option has it."""
    if isinstance(control, Range):
        return int(control.value) if rule.annotation is int else round(control.value, 6)
    return control.value


def _row(name: str, controls: list[ipw.Widget]) -> ipw.Widget:
    """A transform's name, what it does, and its controls."""
    title = f"<b>{escape(name.replace('_', ' '))}</b> {escape(first_line(table('transform')[name]))}"
    return styled(ipw.VBox([ipw.HTML(title), styled(ipw.Box(controls), "form")]), "step")
