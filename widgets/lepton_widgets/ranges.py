"""A slider that is native to the page."""

from __future__ import annotations

import anywidget
import traitlets

from .frame import static


class Range(anywidget.AnyWidget):
    """A slider of a number, with a name; it is shown as a fraction of 100 % unless it is ``plain``."""

    _esm = static("base.js", "range.js")
    _css = static("lepton.css")
    value = traitlets.Float(0.0).tag(sync=True)
    min = traitlets.Float(0.0).tag(sync=True)
    max = traitlets.Float(0.95).tag(sync=True)
    step = traitlets.Float(0.05).tag(sync=True)
    plain = traitlets.Bool(False).tag(sync=True)
    description = traitlets.Unicode("").tag(sync=True)
    tooltip = traitlets.Unicode("").tag(sync=True)
    disabled = traitlets.Bool(False).tag(sync=True)
