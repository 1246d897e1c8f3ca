"""Fields for the options of what a form chooses: of its data set, model, schedule, strategy and metrics."""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterator, Sequence
from html import escape
from typing import Any

import ipywidgets as ipw

from lepton_lab.spec import CELL
from lepton_lab.tables import entry_options

from .pieces import styled, terms


class Options(ipw.VBox):
    """A field for each option that the chosen entries take, and below them what each means.

    A field that is left empty has the option's default, which stands in it in grey.

    Parameters
    ----------
    changed : callable
        Called without arguments after a field has changed.

    Attributes
    ----------
    fields : dict
        The controls shown, by option.
    """

    description = "Options"

    def __init__(self, changed: Callable[[], None]) -> None:
        self.fields: dict[str, ipw.Widget] = {}
        self._changed = changed
        self._offered: list[tuple[str, str, str]] = []
        self._grid, self._meanings = styled(ipw.Box(), "form"), ipw.HTML()
        super().__init__([self._grid, self._meanings])

    def offer(self, chosen: Sequence[tuple[str, str]]) -> None:
        """Show the fields of entries, family and name, and no others; what was typed into one that stays is kept."""
        offered = list(_offered(chosen))
        if [item[:3] for item in offered] == self._offered:
            return
        before = {item: self.fields[item[2]] for item in self._offered}
        self._offered = [item[:3] for item in offered]
        self.fields = {item[2]: before.get(item[:3]) or self._field(*item) for item in offered}
        self._grid.children = list(self.fields.values())
        self._meanings.value = _meanings(offered)

    @property
    def value(self) -> dict[str, Any]:
        """What was given, as it was typed or chosen."""
        return {option: field.value for option, field in self.fields.items() if field.value != ""}

    def show(self, options: dict[str, Any]) -> None:
        """Set the fields; an option that is not named gets its default."""
        for option, field in self.fields.items():
            value = options.get(option, "")
            field.value = _text(value) if isinstance(field, ipw.Text) else value

    def mark(self, refused: set[str]) -> None:
        """Mark the fields of refused options, and no others."""
        for option, field in self.fields.items():
            (field.add_class if option in refused else field.remove_class)("ll-refused")

    def _field(self, family: str, name: str, option: str, rule: Any) -> ipw.Widget:
        common = {"description": option.replace("_", " "), "tooltip": f"{option}: {rule.description} ({family} {name})"}
        values = (True, False) if rule.annotation is bool else typing.get_args(rule.annotation)
        if values:
            choices = [(f"{_text(rule.default)} (default)", ""), *((_text(value), value) for value in values)]
            field = ipw.Dropdown(options=choices, value="", **common)
        else:
            field = ipw.Text(placeholder=_text(rule.default), continuous_update=False, **common)
        field.observe(lambda _: self._changed(), names="value")
        return field


def _offered(chosen: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str, str, Any]]:
    """Family, name of its entry, option and rule, of all that entries take; what two of them take comes once."""
    seen = set()
    for family, name in chosen:
        if name.startswith(CELL):
            continue
        kind, path, _ = name.partition(":")  # whose options are the same whatever the path
        for option, rule in entry_options(family, name).items():
            if option not in seen:
                seen.add(option)
                yield family, kind + path, option, rule


def _meanings(offered: list[tuple[str, str, str, Any]]) -> str:
    rows = []
    for family, name, option, rule in offered:
        source = escape(f"{family} {name}, {_text(rule.default)} if left empty")
        rows.append((escape(option.replace("_", " ")), f"{escape(rule.description)} <small>{source}</small>"))
    return terms("choices", rows)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)
