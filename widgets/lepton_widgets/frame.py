"""What a cell shows of a widget: the widget while its kernel lives, and a picture and words in the saved notebook."""

from __future__ import annotations

import logging
import os
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import anywidget
import traitlets
from ipywidgets import Widget, widget_serialization

STATIC = Path(__file__).parent / "static"
VIEW = "application/vnd.jupyter.widget-view+json"
SELDOM = 30.0
"""Seconds between two updates of what is saved, while nothing begins or ends."""
SOON = 2.0
"""Seconds until the first of them."""
SHARE = 0.01
"""Most of the kernel's time that these updates take: a picture costs some tenths of a second."""
_SAVING = threading.RLock()
"""Held from a look at a widget until that look is shown: of two threads the one that looked first shows first."""

log = logging.getLogger(__name__)


def static(*names: str) -> str:
    """Text of the files ``static/<name>``, one after the other."""
    return "\n".join((STATIC / name).read_text(encoding="utf-8") for name in names)


class Frame(anywidget.AnyWidget):
    """One output of one widget.

    JupyterLab can't show a widget whose kernel is gone. So what is saved is no widget, but plain HTML of what it
    showed last; the page (frame.js) writes that into the notebook, and puts the widget over it as long as it is
    there. A page that can't (VS Code, Voila) has the widget in the output itself, and without a page (papermill)
    there is plain HTML alone.

    Parameters
    ----------
    child : Widget
        What is shown.
    still : dict
        What is to be saved of it: ``text/html`` and ``text/plain``.
    """

    _esm = static("base.js", "frame.js")

    child = traitlets.Instance(Widget).tag(sync=True, **widget_serialization)
    still = traitlets.Dict().tag(sync=True)

    def __init__(self, child: Widget, still: dict[str, str]) -> None:
        self._place = uuid.uuid4().hex
        self._writes = True
        self._alone = unattended()
        super().__init__(child=child, still=self._marked(still))
        self.on_msg(self._on_message)

    def show(self) -> None:
        """Display it below the cell that runs."""
        self._display(self.still, update=False)

    def update(self, still: dict[str, str], final: bool) -> None:
        """Take over what is to be saved from now on; ``final`` where nothing follows soon."""
        still = self._marked(still)
        if self._alone or (final and not self._writes):
            self._display(still, update=True)
        self.still = still

    def _marked(self, still: dict[str, str]) -> dict[str, str]:
        return {**still, "text/html": f'<div class="ll-still-{self._place}">{still["text/html"]}</div>'}

    def _display(self, still: dict[str, str], update: bool) -> None:
        from IPython.display import display

        view = {} if self._alone else {VIEW: self.child.get_view_spec()}
        display({**view, **still}, raw=True, display_id=self._place, update=update)

    def _on_message(self, _: Any, content: dict[str, Any], buffers: Any) -> None:
        self._writes = content.get("writes", self._writes)


class Shown:
    """A widget that outlives its kernel as a picture and words; mixed into ipywidgets' classes."""

    within: Shown | None = None
    """The widget of which it is a part: that one is what is shown."""
    _frames: tuple[Frame, ...] = ()
    _still_due = 0.0

    def still(self, picture: bool = True) -> dict[str, str]:
        """What is saved of it: ``text/html`` and ``text/plain``; with a ``picture`` where there is time for one."""
        raise NotImplementedError

    def going(self) -> bool:
        """Whether what it shows is still to change by itself."""
        return False

    def _ipython_display_(self, **kwargs: Any) -> None:
        assert isinstance(self, Widget)
        with _SAVING:
            going = self.going()  # a picture takes its time, which a cell need not wait for where others follow
            frame = Frame(self, self.still(picture=not going))
            self._frames = (*self._frames, frame)
            self._still_due = time.monotonic() + SOON
            frame.show()
        if going and not self.going():
            self.keep(now=True)

    def keep(self, now: bool = False) -> None:
        """Bring what is saved up to date: ``now``, where something began or ended, else from time to time."""
        if self.within is not None:
            self.within.keep(now)
        elif self._frames and (now or time.monotonic() >= self._still_due):
            with _SAVING:
                self._save()

    def _save(self) -> None:
        began = time.monotonic()
        try:
            still, final = self.still(), not self.going()
            for frame in self._frames:
                frame.update(still, final)
        except Exception:  # a view never fails a run, nor the kernel
            log.exception("what is saved of a widget could not be updated")
        spent = time.monotonic() - began
        self._still_due = time.monotonic() + max(SELDOM, spent / SHARE)

    def stale(self) -> None:
        """Say that what is saved is out of date: the next look at it brings it up to date."""
        (self.within or self)._still_due = 0.0

    def take_away(self) -> None:
        """Close its frames: what they showed last stays in the notebook."""
        for frame in self._frames:
            frame.close()
        self._frames = ()


def unattended() -> bool:
    """Whether the notebook runs without a page, as under papermill and nbconvert."""
    from IPython import get_ipython

    shell = get_ipython()
    if shell is None or not hasattr(shell, "get_parent") or os.environ.get("SERVER_SOFTWARE", "").startswith("voila"):
        return False  # Voila runs cells as nbconvert does, and has a page all the same
    return not shell.get_parent().get("content", {}).get("allow_stdin", True)
