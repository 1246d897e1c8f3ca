"""Pieces of forms: widgets with classes of the stylesheet, lists of terms, and why something is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from html import escape
from typing import TypeVar

import ipywidgets as ipw

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
