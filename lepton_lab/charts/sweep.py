"""The loss against a learning rate that rises: where training works, and where it ends."""

from __future__ import annotations

import html
from dataclasses import dataclass
from math import log10
from typing import TYPE_CHECKING, Any

from .drawing import COLORS, GREY, GREY_ANYWHERE, Chart, dress, head, legend, plain
from .traces import Mark, Trace

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RATE, LOSS = "learning rate (log scale)", "training loss"
ROOM = 0.08  # of the height, above and below the curve


@dataclass(frozen=True)
class Sweep(Chart):
    """The loss of each step, thin, and smoothed, strong; upright lines mark rates."""

    sentence: str
    """What it comes to; stands under the title."""
    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    """All of one length; what lies far above the smoothed curve before its lowest point is off the picture."""
    marks: tuple[tuple[float, str], ...] = ()
    """Rates, and what they are."""

    def _traces(self, layout: dict[str, Any]) -> list[dict[str, Any]]:
        layout["title"]["subtitle"] = {"text": html.escape(self.sentence), "font": {"size": 12.5}}
        layout["margin"]["t"] = 72
        layout["xaxis"] |= {"title": {"text": RATE, "standoff": 6}, "type": "log", "exponentformat": "power"}
        layout["xaxis"] |= {"dtick": 1, "range": [log10(self.rates[0]), log10(self.rates[-1])]}
        layout["yaxis"] |= {"title": {"text": LOSS}, "range": self._heights()}
        layout["hovermode"] = "x unified"
        for mark in self._marks():
            mark.plotly(layout, log=True)
        return [trace.plotly() for trace in self._curves()]

    def _curves(self) -> list[Trace]:
        return [
            Trace(self.rates, self.losses, COLORS[0], "each step", width=0.8, faint=True),
            Trace(self.rates, self.smoothed, COLORS[0], "smoothed", width=1.9),
        ]

    def _marks(self) -> list[Mark]:
        colors = (COLORS[2], COLORS[1], GREY_ANYWHERE)
        return [Mark(rate, what, colors[min(i, 2)], size=8) for i, (rate, what) in enumerate(self.marks)]

    def _heights(self) -> list[float]:
        low = min(self.smoothed)
        high = max(self.smoothed[: self.smoothed.index(low) + 1])  # what rises beyond it would press all else flat
        margin = ROOM * (high - low or 1.0)
        return [low - margin, high + 4 * margin]

    def _draw(self, figure: Figure) -> None:
        axes = figure.add_subplot()
        for trace in self._curves():
            trace.draw(axes)
        for mark in self._marks():
            mark.draw(axes)
        axes.set_xscale("log")
        axes.set_xlim(self.rates[0], self.rates[-1])
        axes.set_ylim(*self._heights())
        dress(axes, RATE, LOSS)
        axes.set_title(plain(self.sentence), loc="left", fontsize=8.5, color=GREY)
        head(figure, self.title, size=11)
        legend(figure, 2)
