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
    from matplotlib.figure import Figure

    from ..run.handle import Run

RIGHT, WRONG, EMPTY = COLORS[0], COLORS[1], "#f4f5f7"
SCALE = ((0.0, WRONG), (0.5, "#f9e7d9"), (0.5, "#d9eaf3"), (1.0, RIGHT))
"""From all of a class in a wrong cell, by nearly none there and nearly none in the right one, to all of it there."""
DARK = 0.47  # fraction from which on a cell's count is white
GAP = 11.0  # points of white between the cells, over all
FITTING = 45  # letters of names that fit side by side
READABLE = 20  # classes up to which every cell's count can be written in it


@dataclass(frozen=True)
class Matrix(Chart):
    """Counts by true class (rows) and predicted class (columns)."""

    counts: list[list[int]]
    classes: list[str]

    def _shares(self) -> list[list[float | None]]:
        """What fraction of its true class a cell has, below zero where the answer is wrong; None where it has none."""
        return [
            [count / sum(row) * (1 if i == j else -1) if count else None for j, count in enumerate(row)]
            for i, row in enumerate(self.counts)
        ]

    def _traces(self, layout: dict[str, Any]) -> list[dict[str, Any]]:
        square = {"type": "category", "showgrid": False, "constrain": "domain"}
        layout["xaxis"] |= square | {"title": {"text": "predicted"}}
        layout["yaxis"] |= square | {"title": {"text": "true"}, "autorange": "reversed", "scaleanchor": "x"}
        names, shares = [html.escape(name) for name in self.classes], self._shares()
        heat = {
            "type": "heatmap",
            "z": shares,
            "customdata": [[share and abs(share) for share in row] for row in shares],
            "text": [[str(count or "") for count in row] for row in self.counts],
            "x": names,
            "y": names,
            "zmin": -1,
            "zmax": 1,
            "xgap": 1,
            "ygap": 1,
            "showscale": False,
            "hoverongaps": False,
            "colorscale": [list(stop) for stop in SCALE],
            "hovertemplate": "true %{y}, predicted %{x}: %{text} (%{customdata:.1%} of true %{y})<extra></extra>",
            "texttemplate": "%{text}" if len(names) <= READABLE else "",
        }
        return [heat]

    def _size(self) -> Ends:
        return 4.6, 4.6

    def _draw(self, figure: Figure) -> None:
        from matplotlib.colors import LinearSegmentedColormap

        axes, n = figure.add_subplot(), len(self.classes)
        colors = LinearSegmentedColormap.from_list("shares", [*SCALE]).with_extremes(bad=EMPTY)
        shares = [[float("nan") if share is None else share for share in row] for row in self._shares()]
        # One picture for all cells, since a shape for each would take seconds from a hundred classes on.
        axes.imshow(shares, cmap=colors, vmin=-1, vmax=1, interpolation="nearest", zorder=0)
        edges = [i - 0.5 for i in range(n + 1)]
        for lines in (axes.hlines, axes.vlines):
            lines(edges, -0.5, n - 0.5, color="white", lw=GAP / n, zorder=1)
        for i, row in enumerate(self.counts if n <= READABLE else []):
            for j, count in enumerate(row):
                if count:
                    ink = "white" if abs(shares[i][j]) > DARK else INK
                    size = 8 if n <= 12 else 6
                    axes.text(j, i, str(count), ha="center", va="center", fontsize=size, color=ink)
        every = range(0, n, -(-n // READABLE))
        long = len(every) * max(len(self.classes[i]) for i in every) > FITTING
        axes.set_xticks(every, [plain(self.classes[i]) for i in every], rotation=45 if long else 0)
        axes.set_yticks(every, [plain(self.classes[i]) for i in every])
        dress(axes, "predicted", "true")
        axes.grid(False)
        head(figure, self.title)


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
