"""Live views above each other: a launch adds one, and takes none away whose run still goes."""

from __future__ import annotations

import ipywidgets as ipw

from lepton_lab import Run, runs
from lepton_lab.store.folder import ENDED

from .frame import Shown
from .live import Live

FOUND = 3
"""Views of runs that were there before, on a page that is opened; the shelf shows them all."""


class Stack(ipw.VBox):
    """Live views, the newest first.

    Parameters
    ----------
    owner : Shown
        The widget that they are a part of.
    """

    def __init__(self, owner: Shown) -> None:
        self._owner = owner
        super().__init__()

    def show(self, *shown: Run) -> Live:
        """A view of runs, on top; those whose runs have all ended make room."""
        live = Live(*shown)
        live.within = self._owner
        before = self.children
        self.children = [live, *(view for view in before if any(run.state not in ENDED for run in view.runs))]
        for view in before:
            if view not in self.children:
                view.close()
        return live

    def find(self) -> None:
        """Show what is going under this home."""
        for run in [run for run in runs() if run.state not in ENDED][:FOUND][::-1]:
            self.show(run)

    def close(self) -> None:
        """Take the views away; their runs go on."""
        for view in self.children:
            view.close()
        super().close()
