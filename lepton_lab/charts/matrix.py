"""Counts by true and predicted class."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..metrics import METRICS
from ..store.naming import labels
from .drawing import COLORS, INK, Chart, Ends, Nothing, dress, head, plain
from .series import read

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..run.handle import Run

RIGHT, WRONG, EMPTY = COLORS[0], COLORS[1], "#f4f5f7"
GAP = 11.0  # points of white between the cells, over all
FITTING = 45  # letters of names that fit side by side
READABLE = 20  # classes up to which every cell's count can be written in it


@dataclass(frozen=True)
class Matrix(Chart):
    """Counts by true class (rows) and predicted class (columns)."""

    counts: list[list[int]]
    classes: list[str]

    def _traces(self, layout: dict[str, Any]) -> list[dict[str, Any]]:
        square = {"type": "category", "showgrid": False, "constrain": "domain"}
        layout["xaxis"] |= square | {"title": {"text": "predicted"}}
        layout["yaxis"] |= square | {"title": {"text": "true"}, "autorange": "reversed", "scaleanchor": "x"}
        names = [html.escape(name) for name in self.classes]
        data = []
        for right, color in ((True, RIGHT), (False, WRONG)):  # a heat map each
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
        return data

    def _size(self) -> Ends:
        return 4.6, 4.6

    def _draw(self, figure: Figure) -> None:
        axes = figure.add_subplot()
        n = len(self.classes)
        colors = [_color(row, i, j) for i, row in enumerate(self.counts) for j in range(n)]
        # One picture for all cells, since a shape for each would take seconds from a hundred classes on.
        axes.imshow([colors[i * n : (i + 1) * n] for i in range(n)], interpolation="nearest", zorder=0)
        edges = [i - 0.5 for i in range(n + 1)]
        for lines in (axes.hlines, axes.vlines):
            lines(edges, -0.5, n - 0.5, color="white", lw=GAP / n, zorder=1)
        if n <= READABLE:
            self._write(axes)
        every = range(0, n, -(-n // READABLE))
        long = len(every) * max(len(self.classes[i]) for i in every) > FITTING
        axes.set_xticks(every, [plain(self.classes[i]) for i in every], rotation=45 if long else 0)
        axes.set_yticks(every, [plain(self.classes[i]) for i in every])
        dress(axes, "predicted", "true")
        axes.grid(False)
        head(figure, self.title)

    def _write(self, axes: Axes) -> None:
        """Each cell's count in it."""
        size = 8 if len(self.classes) <= 12 else 6
        for i, row in enumerate(self.counts):
            for j, count in enumerate(row):
                if count:
                    ink = "white" if _depth(count, row) > 0.55 else INK
                    axes.text(j, i, str(count), ha="center", va="center", fontsize=size, color=ink)


def _color(row: list[int], i: int, j: int) -> tuple[int, ...]:
    """Red, green and blue of the cell of true class i and predicted class j, 0 to 255."""
    color = _tint(RIGHT if i == j else WRONG, _depth(row[j], row)) if row[j] else EMPTY
    return tuple(bytes.fromhex(color[1:]))


def _depth(count: int, row: list[int]) -> float:
    return 0.15 + 0.85 * (_share(count, sum(row)) or 0)


def _share(count: int | None, whole: int) -> float | None:
    return None if not count else count / whole


def _tint(color: str, depth: float) -> str:
    """A colour thinned with white: depth 1 is the colour, 0 white."""
    parts = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(255 - (255 - part) * depth):02x}" for part in parts)


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
