"""Pieces of forms: widgets with classes of the stylesheet, lists of terms, and why something is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from html import escape
from typing import TypeVar

import ipywidgets as ipw
import traitlets

Styled = TypeVar("Styled", bound=ipw.DOMWidget)


def styled(widget: Styled, *names: str) -> Styled:
    """The widget, with classes of lepton.css, which are named without their prefix."""
    for name in names:
        widget.add_class(f"ll-{name}")
    return widget


def button(style: str, action: Callable[[], object], **traits: str) -> ipw.Button:
    """A button of a class of lepton.css that calls a function without arguments."""
    widget = styled(ipw.Button(**traits), style)
    widget.on_click(lambda _: action())
    return widget


class Several(ipw.VBox):
    """Chips, any of which may be pressed; ``value`` has the names of those that are.

    Parameters
    ----------
    description, tooltip : str
        Its name, and what it is for.
    """

    value = traitlets.List(traitlets.Unicode())

    def __init__(self, description: str, tooltip: str = "") -> None:
        self.description = description
        self._chips: dict[str, ipw.ToggleButton] = {}
        self._row = styled(ipw.Box(), "chips")
        super().__init__([ipw.HTML(f"<span title='{escape(tooltip)}'>{escape(description)}</span>"), self._row])
        styled(self, "several")
        self.observe(lambda _: self._show(), names="value")

    def offer(self, names: Mapping[str, str]) -> None:
        """Offer names, each with what it means, beside those that are pressed."""
        wanted = {**names, **{name: "" for name in self.value if name not in names}}
        if [*wanted] == [*self._chips]:
            return
        self._chips = {name: self._chips.get(name) or self._chip(name, about) for name, about in wanted.items()}
        self._row.children = list(self._chips.values())
        self._show()

    def _chip(self, name: str, about: str) -> ipw.ToggleButton:
        chip = styled(ipw.ToggleButton(description=name.replace("_", " "), tooltip=f"{name}: {about}"), "pick")
        chip.observe(lambda change: self._press(name, change["new"]), names="value")
        return chip

    def _press(self, name: str, pressed: bool) -> None:
        if pressed != (name in self.value):
            self.value = [*self.value, name] if pressed else [other for other in self.value if other != name]

    def _show(self) -> None:
        for name, chip in self._chips.items():
            chip.value = name in self.value


def terms(style: str, rows: Iterable[tuple[str, str]]) -> str:
    """HTML of a list of terms, each with the HTML of what it is; "" where there are none."""
    items = "".join(f"<div><dt>{term}</dt><dd>{meaning}</dd></div>" for term, meaning in rows)
    return f"<dl class='ll-{style}'>{items}</dl>" if items else ""


def sentence(error: BaseException) -> str:
    """What an error says, or its kind where it says nothing."""
    return str(error) or type(error).__name__


def refusal(text: str) -> str:
    """HTML of why something is refused; "" where nothing is."""
    return f"<div class='ll-refusal' role='alert'>{escape(text)}</div>" if text else ""
