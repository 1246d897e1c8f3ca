"""Numbers of rows and columns as colours, such as what accuracy is left when one layer is pruned."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .drawing import COLORS, INK, Chart, Ends, dress, head, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOST = ((0.0, "#ffffff"), (0.25, "#f6d9c4"), (1.0, COLORS[1]))
"""From nothing lost to all."""
DONE, LAYER = "what was done to the layer alone", "layer"
NAME = 44  # letters of a row's name, at most: the end says more than the beginning


@dataclass(frozen=True)
class Heat(Chart):
    """Accuracy by layer (rows) and what was done to it (columns), coloured by what it lost."""

    rows: list[str]
    columns: list[str]
    values: list[list[float | None]]
    """Accuracy, fraction; None where it can't be done."""
    whole: float
    """Accuracy of the model as it is."""

    def _traces(self, layout: dict[str, Any]) -> list[dict[str, Any]]:
        layout["xaxis"] |= {"type": "category", "showgrid": False, "side": "bottom", "title": {"text": DONE}}
        layout["yaxis"] |= {"type": "category", "showgrid": False, "autorange": "reversed", "title": {"text": LAYER}}
        heat = {
            "type": "heatmap",
            "z": self._lost(),
            "text": [["" if v is None else f"{v:.1%}" for v in row] for row in self.values],
            "texttemplate": "%{text}",
            "x": self.columns,
            "y": [html.escape(_short(name)) for name in self.rows],
            "zmin": 0,
            "zmax": max(0.01, self.whole),
            "xgap": 2,
            "ygap": 2,
            "hoverongaps": False,
            "colorscale": [list(stop) for stop in LOST],
            "colorbar": {"title": {"text": "accuracy lost"}, "tickformat": ".0%", "thickness": 12},
            "hovertemplate": "%{y}, %{x}: accuracy %{text}, lost %{z:.1%}<extra></extra>",
        }
        return [heat]

    def _lost(self) -> list[list[float | None]]:
        return [[None if v is None else max(0.0, self.whole - v) for v in row] for row in self.values]

    def _size(self) -> Ends:
        return 6.4, 1.2 + 0.26 * len(self.rows)

    def _draw(self, figure: Figure) -> None:
        from matplotlib.colors import LinearSegmentedColormap

        axes = figure.add_subplot()
        colors = LinearSegmentedColormap.from_list("lost", [*LOST]).with_extremes(bad="#f4f5f7")
        top = max(0.01, self.whole)
        shown = [[float("nan") if v is None else v for v in row] for row in self._lost()]
        axes.imshow(shown, cmap=colors, vmin=0, vmax=top, aspect="auto", interpolation="nearest")
        for i, row in enumerate(self.values):
            for j, value in enumerate(row):
                if value is not None:
                    ink = "white" if self.whole - value > 0.7 * top else INK
                    axes.text(j, i, f"{value:.1%}", ha="center", va="center", fontsize=7.5, color=ink)
        axes.set_xticks(range(len(self.columns)), self.columns)
        axes.set_yticks(range(len(self.rows)), [plain(_short(name)) for name in self.rows])
        dress(axes, DONE, LAYER)
        axes.grid(False)
        axes.tick_params(length=0)
        head(figure, self.title)


def _short(name: str) -> str:
    return name if len(name) <= NAME else f"…{name[-NAME + 1 :]}"
