"""Where a form's runs go: this machine, or a launcher of the table with a field for each of its settings."""

from __future__ import annotations

import contextlib
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, fields
from html import escape
from typing import Any

import ipywidgets as ipw

from lepton_lab.errors import SpecError
from lepton_lab.launchers import HERE, LAUNCHERS, Launcher
from lepton_lab.tables import meanings
from lepton_lab.values import parsed

from .about import first_line
from .pieces import styled

LABEL = "Runs on"


class Place(ipw.Box):
    """A choice of LAUNCHERS, and beside it a field for each setting of the one that is chosen.

    A field that is left empty has the setting's default, which stands in it in grey.

    Parameters
    ----------
    on : Launcher
        What is chosen at first.
    changed : callable
        Called without arguments after the choice or a field has changed.

    Attributes
    ----------
    choice : ipywidgets.Dropdown
        Of names of LAUNCHERS.
    fields : dict
        By name of a setting its control; of what is chosen alone.
    """

    def __init__(self, on: Launcher, changed: Callable[[], None]) -> None:
        self._changed = changed
        names = [("this machine" if name == HERE.name else name, name) for name in LAUNCHERS]
        self.choice = ipw.Dropdown(options=names, value=on.name, description=LABEL, tooltip="Where runs are done")
        self.fields: dict[str, ipw.Widget] = {}
        super().__init__([self.choice])
        styled(self, "place")
        self._offer()
        for setting in fields(on):
            self.fields[setting.name].value = _shown(getattr(on, setting.name), setting, self.fields[setting.name])
        self.choice.observe(lambda _: (self._offer(), changed()), names="value")

    def read(self) -> Launcher:
        """What is chosen.

        Raises
        ------
        SpecError
            If a setting is refused.
        """
        kind = LAUNCHERS[self.choice.value]
        hints, values = typing.get_type_hints(kind), {}
        for setting in fields(kind):
            text = self.fields[setting.name].value
            if text != "":
                values[setting.name] = _value(text, hints[setting.name])
            elif _default(setting) is MISSING:
                raise SpecError(f"{setting.name}='': {code_name(kind)} needs it")
        return kind(**values)

    def mark(self, refused: set[str]) -> None:
        """Mark the fields of refused settings, or the choice itself, and no others."""
        for name, control in {"on": self.choice, **self.fields}.items():
            (control.add_class if name in refused else control.remove_class)("ll-refused")

    @property
    def rows(self) -> list[tuple[str, str]]:
        """HTML of what is chosen and of its settings: a term and what it is; nothing of this machine."""
        kind = LAUNCHERS[self.choice.value]
        if kind is type(HERE):
            return []
        about = meanings(kind)
        rows = [(_label(name), f"<small>{escape(about.get(name, ''))}</small>") for name in self.fields]
        said = first_line(kind).split(": `")[0].rstrip(".") + "."  # without how code says it
        return [(LABEL, f"<b>{escape(kind.name)}</b> {escape(said)}"), *rows]

    def _offer(self) -> None:
        kind = LAUNCHERS[self.choice.value]
        hints, about = typing.get_type_hints(kind), meanings(kind)
        named = {each.name: each for each in fields(kind)}
        self.fields = {name: self._field(each, hints[name], about.get(name, "")) for name, each in named.items()}
        self.children = [self.choice, *self.fields.values()]

    def _field(self, setting: Field[Any], kind: Any, about: str) -> ipw.Widget:
        common: dict[str, Any] = {"description": _label(setting.name), "tooltip": f"{setting.name}: {about}"}
        default = _default(setting)
        names = typing.get_args(kind) if typing.get_origin(kind) is typing.Literal else ()
        if kind is bool:
            field = ipw.Checkbox(value=default is True, indent=False, **common)
        elif names:
            field = ipw.Dropdown(options=[(str(name), name) for name in names], value=default, **common)
        else:
            grey = "" if default is MISSING else _text(default)
            field = ipw.Text(placeholder=grey, continuous_update=False, **common)
        field.observe(lambda _: self._changed(), names="value")
        return field


def in_code(on: Launcher) -> str:
    """A launcher as Python makes it, with the settings that are not their defaults: "lab.Torchrun(nodes=2)"."""
    given = {each.name: getattr(on, each.name) for each in fields(on) if getattr(on, each.name) != _default(each)}
    listed = {name: [*value] if isinstance(value, tuple) else value for name, value in given.items()}
    return f"{code_name(type(on))}({', '.join(f'{name}={value!r}' for name, value in listed.items())})"


def code_name(kind: type[Launcher]) -> str:
    """What code calls it."""
    return f"lab.{kind.__name__}"


def _label(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _default(setting: Field[Any]) -> Any:
    """The default of a setting; MISSING where it has none."""
    return setting.default if setting.default_factory is MISSING else setting.default_factory()


def _shown(value: Any, setting: Field[Any], control: ipw.Widget) -> Any:
    """A setting as its control has it."""
    return value if not isinstance(control, ipw.Text) else "" if value == _default(setting) else _text(value)


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {item}" for name, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else str(value)


def _value(value: Any, kind: Any) -> Any:
    """What a control holds, as the setting's type has it; text that is none such is left for the launcher to refuse."""
    union = typing.get_origin(kind) in (typing.Union, types.UnionType)
    origins = [typing.get_origin(each) or each for each in (typing.get_args(kind) if union else (kind,))]
    kinds = [each for each in origins if isinstance(each, type)]
    if not isinstance(value, str):
        return value
    if int in kinds and re.fullmatch(r"[+-]?\d+", value):
        return int(value)
    if float in kinds:
        with contextlib.suppress(ValueError):
            return float(value)
    if any(each is not str and issubclass(each, Sequence) for each in kinds):
        return [part.strip() for part in value.split(",") if part.strip()]
    if any(issubclass(each, Mapping) for each in kinds):
        with contextlib.suppress(ValueError):
            return parsed(f"{{{value}}}")
    return value
