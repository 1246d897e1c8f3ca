"""Points, lines and upright marks: each described once, and drawn by plotly and by matplotlib."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from math import log10
from typing import TYPE_CHECKING, Any

from .drawing import GREY, GREY_ANYWHERE, MARKERS, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LINE, MARKER, LETTER = 1.3, 1.6, 1.4  # pixels of plotly's a point of matplotlib's
RING = 1 / 6  # of a hollow marker's width: its line
DASHES: dict[str, Any] = {"solid": "-", "dot": ":", "dash": (0, (3, 1.5))}

Bars = tuple[Sequence[float], Sequence[float]]
"""How far each point's bar reaches below it and above."""


@dataclass(frozen=True)
class Trace:
    """Points of one colour: joined by a line, marked, with bars for their spread, or several of these."""

    x: Sequence[float]
    y: Sequence[float]
    color: str
    name: str = ""
    width: float = 0.0
    """Points of the line's width; with 0 there is none."""
    dash: str = "solid"
    """One of DASHES."""
    marker: int | None = None
    """Which of MARKERS; None draws no points."""
    size: float = 6.0
    """Points of a marker's width."""
    hollow: bool = False
    """Whether a marker is a ring, so that what stands within is seen."""
    faint: bool = False
    across: Bars | None = None
    up: Bars | None = None
    """Bars along the x axis and along the y axis."""
    group: str = ""
    """What is shown and hidden together."""
    legend: bool = True
    hover: str = "%{y:.5g}"
    """Template of plotly's for what is shown on hover, in HTML; with "" it is nothing."""

    def plotly(self, key: str = "") -> dict[str, Any]:
        """The trace as plotly.js takes it, on the axes of a key."""
        described: dict[str, Any] = {
            "type": "scatter",
            "x": [float(f"{value:.10g}") for value in self.x],
            "y": [float(f"{value:.6g}") for value in self.y],
            "xaxis": f"x{key}",
            "yaxis": f"y{key}",
            "mode": "+".join(["lines"] * bool(self.width) + ["markers"] * (self.marker is not None)),
            "name": html.escape(self.name),
            "line": {"color": self.color, "width": LINE * self.width, "dash": self.dash},
            "opacity": 0.65 if self.faint else 1,
            "legendgroup": self.group,
            "showlegend": self.legend,
            **({"hovertemplate": self.hover} if self.hover else {"hoverinfo": "skip"}),
        }
        if self.marker is not None:
            symbol = MARKERS[self.marker % len(MARKERS)][1] + "-open" * self.hollow
            described["marker"] = {"color": self.color, "size": MARKER * self.size, "symbol": symbol}
            described["marker"] |= {"line": {"width": LINE * RING * self.size}} if self.hollow else {}
        for axis, bars in (("error_x", self.across), ("error_y", self.up)):
            if bars:
                error = {"symmetric": False, "arrayminus": list(bars[0]), "array": list(bars[1])}
                described[axis] = {"type": "data", **error, "color": self.color, "thickness": 1.3, "width": 4}
        return described

    def draw(self, axes: Axes) -> None:
        """Draw the trace with matplotlib."""
        style: dict[str, Any] = {
            "color": self.color,
            "lw": self.width,
            "ls": DASHES[self.dash] if self.width else "none",
            "marker": None if self.marker is None else MARKERS[self.marker % len(MARKERS)][0],
            "ms": self.size,
            "mfc": "none" if self.hollow else self.color,
            "mec": self.color if self.hollow else "white",
            "mew": RING * self.size if self.hollow else 0.6,
            "solid_capstyle": "butt",  # wide lines below others show at their sides alone
            "alpha": 0.45 if self.faint else None,
            "zorder": 2 if self.faint else 3,
            "label": plain(self.name) if self.legend and self.name else "_",  # which no legend shows
        }
        axes.errorbar(self.x, self.y, self.up, self.across, elinewidth=1.2, capsize=2.5, **style)


@dataclass(frozen=True)
class Mark:
    """An upright dotted line, and what is to be said there, beside its upper end."""

    x: float
    text: str
    color: str | None = None
    """Grey where none is given."""
    after: bool = False
    """Whether the text stands to the right of the line."""
    size: float = 7.0
    """Points of a letter's height."""

    def plotly(self, layout: dict[str, Any], log: bool = False) -> None:
        """Put the mark into a plotly layout, on an x axis with a log scale or without."""
        place = {"xref": "x", "yref": "paper"}
        line = {"color": self.color or GREY_ANYWHERE, "width": 1.5 if self.color else 1, "dash": "dot"}
        layout["shapes"].append({"type": "line", **place, "x0": self.x, "x1": self.x, "y0": 0, "y1": 1, "line": line})
        layout["annotations"].append(
            {**place, "x": log10(self.x) if log else self.x, "y": 1, "text": html.escape(self.text), "textangle": -90}
            | {"xanchor": "left" if self.after else "right", "yanchor": "top", "showarrow": False}
            | {"font": {"size": LETTER * self.size}}
        )

    def draw(self, axes: Axes) -> None:
        """Draw the mark with matplotlib."""
        axes.axvline(self.x, color=self.color or GREY, lw=1.1 if self.color else 0.8, ls=":", zorder=1)
        side, away = ("left", 2) if self.after else ("right", -2)
        text = axes.annotate(
            plain(self.text), (self.x, 1), (away, -2), xycoords=("data", "axes fraction"), textcoords="offset points"
        )
        text.set(rotation=90, ha=side, va="top", fontsize=self.size, color=GREY)
