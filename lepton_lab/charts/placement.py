"""Who holds what: a picture of a strategy before it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .drawing import COLORS, CONFIG, GREY, Chart, head, layout

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EMPTY = "#e4e7eb"
PLACES = {"batch": COLORS[4], "parameters": COLORS[0], "gradients": COLORS[2], "optimizer": COLORS[3]}
GAP = 0.06  # between ranks, in widths of a bar


@dataclass(frozen=True)
class Placement(Chart):
    """
    One bar for each rank and thing, filled where the rank holds it.

    Attributes
    ----------
    held : list of dict
        For each rank, by name of PLACES, the beginning and end of what it holds (0 to 1).
    """

    held: list[dict[str, tuple[float, float]]]

    def plotly(self) -> dict[str, Any]:
        """The chart as plotly.js takes it."""
        described = layout(self.title)
        described["height"] = 250
        described["showlegend"] = False
        bars = self._bars()
        described["xaxis"] |= {"range": [-GAP, len(self.held)], "tickvals": self._middles(), "showgrid": False}
        described["xaxis"]["ticktext"] = self._names()
        described["yaxis"] |= {"type": "category", "autorange": "reversed", "showgrid": False}
        data = [
            {
                "type": "bar",
                "orientation": "h",
                "y": [bar[0] for bar in bars],
                "base": [bar[1] for bar in bars],
                "x": [bar[2] for bar in bars],
                "marker": {"color": [bar[3] for bar in bars], "line": {"width": 0}},
                "hoverinfo": "skip",
            }
        ]
        described |= {"barmode": "overlay", "bargap": 0.25}
        return {"data": data, "layout": described, "config": CONFIG}

    def _bars(self) -> list[tuple[str, float, float, str]]:
        """Row, left end, width and colour of each bar, empty ones first."""
        wide = 1 - GAP
        empty = [(name, float(rank), wide, EMPTY) for rank in range(len(self.held)) for name in PLACES]
        full = [
            (name, rank + wide * begin, wide * (end - begin), PLACES[name])
            for rank, held in enumerate(self.held)
            for name, (begin, end) in held.items()
            if end > begin
        ]
        return empty + full

    def _names(self) -> list[str]:
        return [f"rank {rank}" for rank in range(len(self.held))]

    def _middles(self) -> list[float]:
        return [rank + (1 - GAP) / 2 for rank in range(len(self.held))]

    def _size(self) -> tuple[float, float]:
        return 6.0, 1.9

    def _draw(self, figure: Figure) -> None:
        axes = figure.add_subplot()
        rows = list(PLACES)
        for name, left, width, color in self._bars():
            axes.barh(rows.index(name), width, left=left, color=color, height=0.72)
        axes.set(ylim=(len(rows) - 0.5, -0.5), xlim=(-GAP, len(self.held)))
        axes.set_yticks(range(len(rows)), rows)
        axes.set_xticks(self._middles(), self._names())
        axes.tick_params(length=0, colors=GREY, labelsize=9)
        for spine in axes.spines.values():
            spine.set_visible(False)
        head(figure, self.title)
