"""The loss against a learning rate that rises: where training works, and where it ends."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .drawing import COLORS, CONFIG, GREY, GREY_ANYWHERE, INK, Chart, dress, head, layout, plain

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

    def plotly(self) -> dict[str, Any]:
        """The chart as plotly.js takes it."""
        from math import log10

        described = layout(self.title)
        described["title"]["subtitle"] = {"text": html.escape(self.sentence), "font": {"size": 12.5}}
        described["margin"]["t"] = 72
        described["xaxis"] |= {"title": {"text": RATE, "standoff": 6}, "type": "log", "exponentformat": "power"}
        described["xaxis"] |= {"dtick": 1, "range": [log10(end) for end in (self.rates[0], self.rates[-1])]}
        described["yaxis"] |= {"title": {"text": LOSS}, "range": self._heights()}
        described["hovermode"] = "x unified"
        for i, (rate, what) in enumerate(self.marks):
            line = {"color": _color(i), "width": 1.5, "dash": "dot"}
            described["shapes"].append(
                {"type": "line", "x0": rate, "x1": rate, "xref": "x", "y0": 0, "y1": 1, "yref": "paper", "line": line}
            )
            described["annotations"].append(
                {"x": log10(rate), "y": 1, "xref": "x", "yref": "paper", "text": what, "showarrow": False}
                | {"xanchor": "right", "yanchor": "top", "textangle": -90, "font": {"size": 11}}
            )
        data = [
            _trace("each step", self.rates, self.losses, {"width": 1.2}, 0.55),
            _trace("smoothed", self.rates, self.smoothed, {"width": 2.4}, 1),
        ]
        return {"data": data, "layout": described, "config": CONFIG}

    def _heights(self) -> list[float]:
        low = min(self.smoothed)
        high = max(self.smoothed[: self.smoothed.index(low) + 1])  # what rises beyond it would press all else flat
        margin = ROOM * (high - low or 1.0)
        return [low - margin, high + 4 * margin]

    def _draw(self, figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.plot(self.rates, self.losses, color=COLORS[0], lw=0.8, alpha=0.45, label="each step")
        axes.plot(self.rates, self.smoothed, color=COLORS[0], lw=1.9, label="smoothed")
        for i, (rate, what) in enumerate(self.marks):
            axes.axvline(rate, color=_color(i), lw=1.1, ls=":", zorder=1)
            text = axes.annotate(
                plain(what), (rate, 1), (-3, -2), xycoords=("data", "axes fraction"), textcoords="offset points"
            )
            text.set(rotation=90, ha="right", va="top", fontsize=8, color=GREY)
        axes.set_xscale("log")
        axes.set_xlim(self.rates[0], self.rates[-1])
        axes.set_ylim(*self._heights())
        dress(axes, RATE, LOSS)
        axes.set_title(plain(self.sentence), loc="left", fontsize=8.5, color=GREY)
        head(figure, self.title, size=11)
        figure.legend(loc="outside lower left", ncols=2, frameon=False, fontsize=8.5, labelcolor=INK)


def _trace(
    name: str, x: tuple[float, ...], y: tuple[float, ...], line: dict[str, Any], opacity: float
) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [float(f"{value:.6g}") for value in x],
        "y": [float(f"{value:.6g}") for value in y],
        "name": name,
        "line": line | {"color": COLORS[0]},
        "opacity": opacity,
        "hovertemplate": "%{y:.5g}",
    }


def _color(index: int) -> str:
    return (COLORS[2], COLORS[1], GREY_ANYWHERE)[min(index, 2)]
