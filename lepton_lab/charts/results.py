"""Results side by side: each a figure with its interval, and upright lines for what they are to be held to."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import SpecError
from ..stats import LEVEL, Interval
from .drawing import INK, Chart, Ends, color, dress, head, panel, plain
from .series import number
from .traces import Mark, Trace

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Results(Chart):
    """A row for each result."""

    x: str
    """What is measured, with its unit."""
    rows: dict[str, Interval]
    marks: tuple[Mark, ...]

    def _traces(self, layout: dict[str, Any]) -> list[dict[str, Any]]:
        names = [html.escape(name) for name in self.rows]
        rows = {"tickvals": list(range(len(names))), "ticktext": names, "range": [len(names) - 0.4, -0.6]}
        layout["showlegend"] = False
        panel(layout, "", {"title": html.escape(self.x)}, rows)
        for mark in self.marks:
            mark.plotly(layout)
        return [trace.plotly() for trace in self._points()]

    def _points(self) -> list[Trace]:
        return [row(name, interval, place) for place, (name, interval) in enumerate(self.rows.items())]

    def _size(self) -> Ends:
        return 7.6, 1.25 + 0.42 * len(self.rows)

    def _draw(self, figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.set_yticks(range(len(self.rows)), [plain(name) for name in self.rows])
        axes.set_ylim(len(self.rows) - 0.4, -0.6)
        for trace in self._points():
            trace.draw(axes)
        for mark in self.marks:
            mark.draw(axes)
        dress(axes, plain(self.x), "")
        axes.grid(False, axis="y")
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        head(figure, self.title)


def row(name: str, interval: Interval, place: int) -> Trace:
    """A figure with its interval, in a row of its own."""
    hover = f"{html.escape(name)}: {told(interval)}<extra></extra>"
    across = [interval.mean - interval.low], [interval.high - interval.mean]
    return Trace([interval.mean], [place], color(place), name, marker=place, across=across, hover=hover)


def told(interval: Interval) -> str:
    """A figure with its interval, in words."""
    if interval.low == interval.high:
        return number(interval.mean)
    ends = f"{number(interval.low)} to {number(interval.high)}"
    return f"{number(interval.mean)} ({LEVEL:.0%} interval {ends})".replace("%", " %")


def results(title: str, values: Mapping[str, Interval | float], x: str, marks: Mapping[str, float] = {}) -> Chart:
    """
    Results side by side, each with its interval.

    Parameters
    ----------
    values
        Name -> figure: of `lepton_lab.stats` a `proportion` of so many answers or an `interval` over seeds; or a plain
        number, which has none.
    x
        What is measured, with its unit.
    marks
        What is to be held to them, such as chance or a published figure: name -> value, drawn as an upright line.
    """
    if not values:
        raise SpecError("values={}: must be one result or more, as name -> figure")
    rows = {
        str(name): figure if isinstance(figure, Interval) else Interval(figure, 0, figure, figure, 1)
        for name, figure in values.items()
    }
    beside = "".join(f" {name} has {number(value)}." for name, value in marks.items())
    text = f"{title}, {x}: {'; '.join(f'{name} {told(figure)}' for name, figure in rows.items())}.{beside}"
    return Results(title, text, x, rows, tuple(Mark(value, name) for name, value in marks.items()))
