"""How a notebook shows a run, and what it gives: by the view that another package brings."""

from __future__ import annotations

import contextlib
from importlib import metadata
from typing import Any

from ..errors import Missing


class Viewed:
    """What a notebook shows by the installed view (entry points of `lepton_lab.view`); else as text."""

    def _ipython_display_(self) -> Any:
        for view in metadata.entry_points(group="lepton_lab.view"):
            with contextlib.suppress(Missing):
                return view.load()(self)
        raise NotImplementedError  # IPython then shows the text
