"""The form's data set: a name of the table, or a kind and the path of your own, which is completed as it is typed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import ipywidgets as ipw
import traitlets

from lepton_lab import datasets
from lepton_lab.datasets import DATASETS, OPENERS
from lepton_lab.errors import LabError
from lepton_lab.files import absolute
from lepton_lab.tables import entry_options

from .about import first_line
from .pieces import styled

MOST = 100
"""Names of a folder that are offered."""


class Source(ipw.Box):
    """A list of data sets, and for a kind of your own a field for its path.

    Parameters
    ----------
    options : iterable
        Labels and names of the table's, and of the user's own from cells.
    value : str
        The name at first, such as "digits" or "images:photos/".
    description, tooltip : str
        Of the list.
    """

    value = traitlets.Unicode()

    def __init__(self, options: Iterable[tuple[str, str]], value: str, description: str, tooltip: str = "") -> None:
        kinds = [(f"{kind}: \N{HORIZONTAL ELLIPSIS}", f"{kind}:") for kind in OPENERS]
        self.description = description  # and no tooltip, with which a page can't draw a box
        self._kinds, self._quiet = kinds, False
        self.choice = ipw.Dropdown(options=[*options, *kinds], description=description, tooltip=tooltip)
        self.path = ipw.Combobox(description="Path", placeholder="photos/", continuous_update=True)
        super().__init__([self.choice, self.path])
        styled(self, "place")
        self.choice.observe(lambda _: self._chosen(), names="value")
        self.path.observe(lambda _: self._chosen(), names="value")
        self.observe(lambda _: self._show(), names="value")
        self.value = value
        self._show()

    @property
    def options(self) -> tuple[tuple[str, str], ...]:
        """Labels and names of the list, without kinds of your own."""
        return tuple(self.choice.options[: -len(self._kinds)])

    @options.setter
    def options(self, options: Sequence[tuple[str, str]]) -> None:
        self._quiet = True
        chosen = self.choice.value
        self.choice.options = [*options, *self._kinds]
        if chosen in [name for _, name in self.choice.options]:
            self.choice.value = chosen
        self._quiet = False

    def mark(self, refused: bool) -> None:
        """Mark the field that a refusal is about, the path where there is one, or take the marks away."""
        for field in (self.path, self.choice):
            at = refused and field is (self.path if self._kind else self.choice)
            (field.add_class if at else field.remove_class)("ll-refused")

    @property
    def _kind(self) -> str:
        """Of the kinds of your own the one that is chosen, with its colon."""
        return self.choice.value if self.choice.value in dict(map(reversed, self._kinds)) else ""

    def _chosen(self) -> None:
        """Take up what was chosen or typed."""
        if self._quiet:
            return
        self._offer()
        self.value = f"{self._kind}{self.path.value}" if self._kind else self.choice.value

    def _show(self) -> None:
        """Set the list and the path to the value."""
        kind, mark, path = self.value.partition(":")
        own = bool(mark) and kind in OPENERS
        self._quiet = True
        if own or self.value in [name for _, name in self.choice.options]:
            self.choice.value = f"{kind}:" if own else self.value
        if own and self.path.value != path:
            self.path.value = path
        self._quiet = False
        self._offer()

    def _offer(self) -> None:
        """Show the path of a kind of your own, and what it may go on with."""
        self.path.layout.display = None if self._kind else "none"
        if self._kind:
            self.path.tooltip = first_line(OPENERS[self._kind[:-1]])
            if (names := completions(self.path.value)) != [*self.path.options]:
                self.path.options = names


def completions(text: str) -> list[str]:
    """What the beginning of a path may go on with: names in its folder, of folders with a "/" at their end."""
    start = text[: text.rfind("/") + 1]
    try:
        folder = absolute(start or ".", "path")
        entries = sorted(folder.iterdir(), key=lambda entry: (not entry.is_dir(), entry.name.lower()))
    except (LabError, OSError, ValueError):  # the last of a path with a null byte
        return []
    wanted = text[len(start) :].lower()
    names = [entry.name + "/" * entry.is_dir() for entry in entries if not entry.name.startswith(".")]
    return [start + name for name in names if name.lower().startswith(wanted)][:MOST]


def seen(dataset: str, options: dict[str, Any]) -> str:
    """HTML of what lies at a path, before anything is trained on it; "" of a data set of the table."""
    if ":" not in dataset or dataset not in DATASETS:
        return ""
    own = {option: value for option, value in options.items() if option in entry_options("dataset", dataset)}
    try:
        return datasets.look(dataset, **own)._repr_html_()
    except LabError:
        return ""  # which the form says at its button
