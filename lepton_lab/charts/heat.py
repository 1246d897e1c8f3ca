"""Numbers of rows and columns as colours: counts by class, and what accuracy is left when one layer is pruned."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ..metrics import METRICS
from ..store.naming import labels
from .drawing import COLORS, INK, Chart, Ends, Nothing, dress, head, plain
from .series import read

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..metrics import Metric
    from ..run.handle import Run

Values = Sequence[Sequence[float | None]]
"""By row; None of an empty cell."""
Stops = tuple[tuple[float, str], ...]
"""Colours, each with where it stands between the lowest value (0) and the highest (1)."""

LOST: Stops = ((0.0, "#ffffff"), (0.25, "#f6d9c4"), (1.0, COLORS[1]))
"""From nothing lost to all."""
DONE, LAYER = "what was done to the layer alone", "layer"
NAME = 44  # letters of a row's name, at most: the end says more than the beginning
RIGHT, WRONG, EMPTY = COLORS[0], COLORS[1], "#f4f5f7"
SCALE: Stops = ((0.0, WRONG), (0.5, "#f9e7d9"), (0.5, "#d9eaf3"), (1.0, RIGHT))
"""From all of a class in a wrong cell, by nearly none there and nearly none in the right one, to all of it there."""
DARK = 0.47  # fraction from which on a cell's count is white
GAP = 11.0  # points of white between the cells, over all
FITTING = 45  # letters of names that fit side by side
READABLE = 20  # classes up to which every cell's count can be written in it


@dataclass(frozen=True)
class Heat(Chart):
    """Accuracy, or another metric, by layer (rows) and what was done to it (columns), coloured by what it lost."""

    rows: list[str]
    columns: list[str]
    values: list[list[float | None]]
    """Its figures; None where it can't be done."""
    whole: float
    """The figure of the model as it is."""
    of: type[Metric]
    """The metric."""

    def _traces(self, layout: dict[str, Any]) -> list[dict[str, Any]]:
        layout["xaxis"] |= {"type": "category", "showgrid": False, "side": "bottom", "title": {"text": DONE}}
        layout["yaxis"] |= {"type": "category", "showgrid": False, "autorange": "reversed", "title": {"text": LAYER}}
        names = [html.escape(_short(name)) for name in self.rows]
        word, percent = self.of.word(), self.of.unit()
        form = ".1%" if percent else ".3g"
        details = {
            "text": [["" if v is None else self._text(v) for v in row] for row in self.values],
            "texttemplate": "%{text}",
            "colorbar": {"title": {"text": f"{word} lost"}, "tickformat": ".0%" if percent else "", "thickness": 12},
            "hovertemplate": f"%{{y}}, %{{x}}: {word} %{{text}}, lost %{{z:{form}}}<extra></extra>",
        }
        return [heat_map(self.columns, names, self._lost(), (0, self._top()), LOST, gap=2) | details]

    def _text(self, figure: float) -> str:
        return f"{figure:.1%}" if self.of.unit() else f"{figure:.3g}"

    def _lost(self) -> list[list[float | None]]:
        sign = 1 if self.of.higher else -1
        return [[None if v is None else max(0.0, sign * (self.whole - v)) for v in row] for row in self.values]

    def _top(self) -> float:
        """What is lost at most: all of it, or where less is better what the worst has more."""
        most = max((v for row in self._lost() for v in row if v is not None), default=0.0)
        return max(0.01, self.whole if self.of.higher else most)

    def _size(self) -> Ends:
        return 6.4, 1.2 + 0.26 * len(self.rows)

    def _draw(self, figure: Figure) -> None:
        axes, top, lost = figure.add_subplot(), self._top(), self._lost()
        shade(axes, lost, (0, top), LOST, aspect="auto")
        for i, row in enumerate(self.values):
            for j, value in enumerate(row):
                if value is not None:
                    ink = "white" if (lost[i][j] or 0) > 0.7 * top else INK
                    axes.text(j, i, self._text(value), ha="center", va="center", fontsize=7.5, color=ink)
        axes.set_xticks(range(len(self.columns)), self.columns)
        axes.set_yticks(range(len(self.rows)), [plain(_short(name)) for name in self.rows])
        dress(axes, DONE, LAYER)
        axes.grid(False)
        axes.tick_params(length=0)
        head(figure, self.title)


def _short(name: str) -> str:
    return name if len(name) <= NAME else f"…{name[-NAME + 1 :]}"


@dataclass(frozen=True)
class Matrix(Chart):
    """Counts by true class (rows) and predicted class (columns)."""

    counts: list[list[int]]
    classes: list[str]
    across: ClassVar[str] = "predicted"
    down: ClassVar[str] = "true"

    def _shares(self) -> list[list[float | None]]:
        """What fraction of its true class a cell has, below zero where the answer is wrong; None where it has none."""
        return [
            [count / sum(row) * (1 if i == j else -1) if count else None for j, count in enumerate(row)]
            for i, row in enumerate(self.counts)
        ]

    def _traces(self, layout: dict[str, Any]) -> list[dict[str, Any]]:
        square = {"type": "category", "showgrid": False, "constrain": "domain"}
        layout["xaxis"] |= square | {"title": {"text": self.across}}
        layout["yaxis"] |= square | {"title": {"text": self.down}, "autorange": "reversed", "scaleanchor": "x"}
        names, shares = [html.escape(name) for name in self.classes], self._shares()
        details = {
            "customdata": [[share and abs(share) for share in row] for row in shares],
            "text": [[str(count or "") for count in row] for row in self.counts],
            "showscale": False,
            "hovertemplate": f"{self.down} %{{y}}, {self.across} %{{x}}: %{{text}} "
            f"(%{{customdata:.1%}} of {self.down} %{{y}})<extra></extra>",
            "texttemplate": "%{text}" if len(names) <= READABLE else "",
        }
        return [heat_map(names, names, shares, (-1, 1), SCALE, gap=1) | details]

    def _size(self) -> Ends:
        return 4.6, 4.6

    def _draw(self, figure: Figure) -> None:
        axes, n, shares = figure.add_subplot(), len(self.classes), self._shares()
        shade(axes, shares, (-1, 1), SCALE)
        edges = [i - 0.5 for i in range(n + 1)]
        for lines in (axes.hlines, axes.vlines):
            lines(edges, -0.5, n - 0.5, color="white", lw=GAP / n, zorder=1)
        for i, row in enumerate(self.counts if n <= READABLE else []):
            for j, count in enumerate(row):
                if count:
                    ink = "white" if abs(shares[i][j] or 0) > DARK else INK
                    size = 8 if n <= 12 else 6
                    axes.text(j, i, str(count), ha="center", va="center", fontsize=size, color=ink)
        every = range(0, n, -(-n // READABLE))
        long = len(every) * max(len(self.classes[i]) for i in every) > FITTING
        axes.set_xticks(every, [plain(self.classes[i]) for i in every], rotation=45 if long else 0)
        axes.set_yticks(every, [plain(self.classes[i]) for i in every])
        dress(axes, self.across, self.down)
        axes.grid(False)
        head(figure, self.title)


class Given(Matrix):
    """Counts by the label that samples were given (rows) and the class that they really are of (columns)."""

    across = "really"
    down = "given"


def matrix(name: str, runs: list[Run]) -> Chart:
    """A metric that is a table of true against predicted classes, for the first of the runs."""
    run, title = runs[0], METRICS[name].title
    label = labels([run])[0]
    label += "" if label == run.id else f", {run.id}"
    row = next((row for row in reversed(read(run).detailed) if row.get(name)), None)
    if row is None:
        why = "since no test set with classes was evaluated"
        return Nothing(title, f"{label}: no {METRICS[name].word()} matrix, {why}.")
    counts = row[name]
    classes = [str(name) for name in run.facts.get("classes") or range(len(counts))]
    right, n = sum(counts[i][i] for i in range(len(counts))), sum(map(sum, counts))
    wrong = sorted(((c, i, j) for i, r in enumerate(counts) for j, c in enumerate(r) if c and i != j), reverse=True)
    most = "; ".join(f"{classes[i]} taken for {classes[j]} {count} times" for count, i, j in wrong[:3])
    text = f"{title} matrix of {label} on its {row['split']} set: {right} of {n} right."
    text += f" Most often: {most}." if most else ""
    return Matrix(f"{label}\n{right} of {n} right ({row['split']})", text, counts, classes)


def heat_map(x: Sequence[Any], y: Sequence[Any], values: Values, ends: Ends, stops: Stops, gap: int) -> dict[str, Any]:
    """Coloured cells as a trace of plotly's."""
    return {
        "type": "heatmap",
        "x": [*x],
        "y": [*y],
        "z": values,
        "zmin": ends[0],
        "zmax": ends[1],
        "xgap": gap,
        "ygap": gap,
        "hoverongaps": False,
        "colorscale": [list(stop) for stop in stops],
    }


def shade(axes: Axes, values: Values, ends: Ends, stops: Stops, **how: Any) -> None:
    """Coloured cells of matplotlib's: one picture, since a shape for each takes seconds from a hundred rows on."""
    from matplotlib.colors import LinearSegmentedColormap

    colors = LinearSegmentedColormap.from_list("cells", [*stops]).with_extremes(bad=EMPTY)
    cells = [[float("nan") if value is None else value for value in row] for row in values]
    axes.imshow(cells, cmap=colors, vmin=ends[0], vmax=ends[1], interpolation="nearest", zorder=0, **how)
