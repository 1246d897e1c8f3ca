"""Counts by true and predicted class."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .drawing import COLORS, CONFIG, INK, Chart, dress, layout, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RIGHT, WRONG, EMPTY = COLORS[0], COLORS[1], "#f4f5f7"
READABLE = 20  # classes up to which every cell's count can be written in it


@dataclass(frozen=True)
class Matrix(Chart):
    """Counts by true class (rows) and predicted class (columns)."""

    counts: list[list[int]]
    classes: list[str]

    def plotly(self) -> dict[str, Any]:
        """The chart as plotly.js takes it: right answers in one heat map, wrong ones in another."""
        described = layout(self.title)
        square = {"type": "category", "showgrid": False}
        described["xaxis"] |= square | {"title": {"text": "predicted"}, "constrain": "domain"}
        described["yaxis"] |= square | {"title": {"text": "true"}, "autorange": "reversed", "scaleanchor": "x"}
        described["yaxis"] |= {"constrain": "domain"}
        described["height"] = 460
        names = [html.escape(name) for name in self.classes]
        data = []
        for right, color in ((True, RIGHT), (False, WRONG)):
            shown = [
                [n if n and (i == j) == right else None for j, n in enumerate(row)] for i, row in enumerate(self.counts)
            ]
            data.append(
                {
                    "type": "heatmap",
                    "z": [[_share(n, sum(self.counts[i])) for n in row] for i, row in enumerate(shown)],
                    "text": [["" if n is None else str(n) for n in row] for row in shown],
                    "x": names,
                    "y": names,
                    "zmin": 0,
                    "zmax": 1,
                    "xgap": 1,
                    "ygap": 1,
                    "showscale": False,
                    "hoverongaps": False,
                    "colorscale": [[0, _tint(color, 0.15)], [1, color]],
                    "hovertemplate": "true %{y}, predicted %{x}: %{text} (%{z:.1%} of true %{y})<extra></extra>",
                    "texttemplate": "%{text}" if len(names) <= READABLE else "",
                }
            )
        return {"data": data, "layout": described, "config": CONFIG}

    def _size(self) -> tuple[float, float]:
        return 4.6, 4.6

    def _draw(self, figure: Figure) -> None:
        from matplotlib.patches import Rectangle

        axes = figure.add_subplot()
        n = len(self.classes)
        for i, row in enumerate(self.counts):
            for j, count in enumerate(row):
                depth = 0.15 + 0.85 * (_share(count, sum(row)) or 0)
                color = _tint(RIGHT if i == j else WRONG, depth) if count else EMPTY
                axes.add_patch(Rectangle((j - 0.48, i - 0.48), 0.96, 0.96, color=color, lw=0))
                if count and n <= READABLE:
                    ink = "white" if depth > 0.55 else INK
                    axes.text(j, i, str(count), ha="center", va="center", fontsize=8 if n <= 12 else 6, color=ink)
        axes.set(xlim=(-0.5, n - 0.5), ylim=(n - 0.5, -0.5), aspect="equal")
        every = range(0, n, max(1, n // READABLE))
        long = max(len(name) for name in self.classes) > 4
        axes.set_xticks(every, [plain(self.classes[i]) for i in every], rotation=45 if long else 0)
        axes.set_yticks(every, [plain(self.classes[i]) for i in every])
        dress(axes, "predicted", "true")
        axes.grid(False)
        figure.suptitle(plain(self.title), x=0.012, ha="left", fontsize=10.5, fontweight="bold", color=INK)


def _share(count: int | None, whole: int) -> float | None:
    return None if not count else count / whole


def _tint(color: str, depth: float) -> str:
    """A colour thinned with white: depth 1 is the colour, 0 white."""
    parts = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(255 - (255 - part) * depth):02x}" for part in parts)
