"""Curves over optimizer steps."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..store.tracks import Curve
from .drawing import (
    COLORS,
    CONFIG,
    GREY,
    GREY_ANYWHERE,
    INK,
    MARKERS,
    Chart,
    Nothing,
    dress,
    head,
    layout,
    log_axis,
    plain,
)
from .series import diverged, number, reduce

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SPREAD = 100  # from this ratio of highest to lowest value on, a log scale shows more
FEW = 40  # points that can still be told apart
ROOM = 0.04  # of the y axis, beyond both ends of the curves
MARGIN = 0.02  # above the highest value there can be, for the width of a line
EDGE = 0.04  # of the steps: the name of a mark before it stands on its other side

Marks = tuple[tuple[float, str], ...]
"""Places on the x axis, and what is to be said there."""


@dataclass(frozen=True)
class Line:
    """One curve: thin and light (training), or strong, with markers where it has few points."""

    name: str
    curve: Curve
    index: int = 0
    """Which run it belongs to: its colour and marker."""
    strong: bool = True
    legend: bool = True
    points: bool = True
    """Whether its points count: they are marked where they are few."""

    @property
    def marked(self) -> bool:
        """Whether its points are drawn."""
        return self.strong and self.points and len(self.curve.x) <= FEW

    @property
    def color(self) -> str:
        """The run's colour."""
        return COLORS[self.index % len(COLORS)]


@dataclass(frozen=True)
class Lines(Chart):
    """Curves, over optimizer steps if nothing else is said."""

    y: str
    """Label of the y axis, with its unit."""
    lines: tuple[Line, ...]
    log: bool = False
    x: str = "optimizer steps"
    """Label of the x axis."""
    lowest: float | None = None
    highest: float | None = None
    """Ends of the y axis, where the values have them."""
    marks: Marks = ()
    """Steps at which someone intervened, and what they did; or at which a link of a chain begins."""
    span: tuple[float, float] | None = None
    """Lowest and highest value to be seen, if curves that diverged leave the picture."""

    def plotly(self) -> dict[str, Any]:
        """The chart as plotly.js takes it."""
        described = layout(self.title)
        described["xaxis"] |= {"title": {"text": self.x, "standoff": 6}, "rangemode": "tozero"}
        described["yaxis"] |= {"title": {"text": self.y}} | ({"type": "log", "dtick": 1} if self.log else {})
        if self.lowest is not None:
            described["yaxis"]["rangemode"] = "tozero"
        if self.highest is not None:
            described["yaxis"]["autorangeoptions"] = {"maxallowed": self.highest + MARGIN}
        if self.span:
            described["yaxis"]["range"] = [math.log10(end) if self.log else end for end in roomy(*self.span, self.log)]
        described["hovermode"] = "x unified"
        for step, what in self.marks:
            place = {"x": step, "xref": "x", "yref": "paper", "xanchor": "left" if self._first(step) else "right"}
            described["shapes"].append(
                {"type": "line", "x0": step, "x1": step, "xref": "x", "y0": 0, "y1": 1, "yref": "paper"}
                | {"line": {"color": GREY_ANYWHERE, "width": 1, "dash": "dot"}}
            )
            described["annotations"].append(
                {**place, "y": 1, "text": html.escape(what), "textangle": -90, "showarrow": False}
                | {"yanchor": "top", "font": {"size": 10}}
            )
        return {"data": [_trace(line) for line in self.lines], "layout": described, "config": CONFIG}

    def _first(self, step: float) -> bool:
        """Whether a mark stands too near to the y axis for its name to fit between."""
        return step < EDGE * max(line.curve.x[-1] for line in self.lines)

    def _size(self) -> tuple[float, float]:
        rows = -(-len(self._named()) // self._columns())
        return 6.0, 3.3 + 0.19 * rows

    def _named(self) -> list[Line]:
        """Lines in the legend."""
        return [line for line in self.lines if line.legend] if len(self.lines) > 1 else []

    def _columns(self) -> int:
        """Columns of the legend, by its longest name."""
        longest = max((len(line.name) for line in self._named()), default=0)
        return 1 if longest > 30 else 2 if longest > 18 else 3

    def _draw(self, figure: Figure) -> None:
        from matplotlib.ticker import MaxNLocator

        axes = figure.add_subplot()
        for line in self.lines:
            x, y = reduce(line.curve)
            axes.plot(x, y, zorder=3 if line.strong else 2, **_style(line))
        if self.log:
            log_axis(axes)
        if self.span:
            axes.set_ylim(*roomy(*self.span, self.log))
        high = axes.get_ylim()[1]
        if self.lowest is not None:
            axes.set_ylim(bottom=self.lowest)
        if self.highest is not None:
            axes.set_ylim(top=min(high, self.highest + MARGIN))
        for step, what in self.marks:
            axes.axvline(step, color=GREY, lw=0.8, ls=":", zorder=1)
            side, away = ("left", 2) if self._first(step) else ("right", -2)
            axes.annotate(
                plain(what), (step, 1), (away, -2), xycoords=("data", "axes fraction"), textcoords="offset points"
            ).set(rotation=90, ha=side, va="top", fontsize=7, color=GREY)
        axes.set_xlim(left=0)
        if all(float(x).is_integer() for line in self.lines for x in line.curve.x):
            axes.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True))
            axes.xaxis.set_major_formatter("{x:,.0f}")
        if not self.log and high >= 10_000:
            axes.yaxis.set_major_formatter("{x:,.0f}")
        dress(axes, self.x, self.y)
        self._head(figure)

    def _head(self, figure: Figure) -> None:
        """Title above and legend below, in line with the left edge."""
        from matplotlib.lines import Line2D

        head(figure, self.title, size=11)
        handles = [Line2D([], [], **_style(line)) for line in self._named()]
        names = [plain(line.name) for line in self._named()]
        figure.legend(
            handles, names, loc="outside lower left", ncols=self._columns(), frameon=False, fontsize=8.5, labelcolor=INK
        )


def losses(title: str, text: str, lines: Sequence[Line], names: Sequence[str], axis: str, marks: Marks = ()) -> Lines:
    """
    What is better the lower it is, of one or several runs.

    A curve that diverged leaves the picture, so that the others keep their shape.

    Parameters
    ----------
    title, text
        Of the chart; both say which runs leave it.
    lines
        The curves, each with the index of its run.
    names
        Of the runs.
    axis
        What they are.
    marks
        Steps at which something happened, and what.
    """
    values = [[v for line in lines if line.index == i for v in line.curve.y] for i in range(len(names))]
    above = diverged(values)
    drawn = [v for i, each in enumerate(values) if i not in above for v in each]
    low, top = min(drawn), max(drawn)
    log = low > 0 and top / low > SPREAD
    if above:
        title, text = leaving(title, text, [names[i] for i in above])
    y = axis + (" (log scale)" if log else "")
    return Lines(title, text, y, tuple(lines), log, marks=marks, span=(low, top) if above else None)


def leaving(title: str, text: str, names: Sequence[str]) -> tuple[str, str]:
    """Title and text of a chart that the curves of some runs leave at the top."""
    few = ", ".join(names) if len(names) < 3 else f"{len(names)} runs"
    return f"{title}\nAbove the picture: {few}", f"{text} Above the picture: {', '.join(names)}."


def roomy(low: float, high: float, log: bool) -> tuple[float, float]:
    """Ends of an axis a little beyond the values on it."""
    if log:
        room = (high / low) ** ROOM
        return low / room, high * room
    room = ROOM * (high - low)
    return low - room, high + room


def curves(
    title: str,
    values: Mapping[str, Sequence[float]],
    y: str,
    x: str = "steps",
    at: Sequence[float] | None = None,
    log: bool | None = None,
    marks: Marks = (),
) -> Chart:
    """
    Curves of one's own numbers, in the look of all charts; a curve ends where it is no longer a finite number.

    Parameters
    ----------
    title
        What they show.
    values
        Name of each curve -> its values (floats, or a tensor).
    y, x
        Labels of the axes, with units.
    at
        Where on the x axis the values stand, ascending from 0 or more; else they are counted from 0.
    log
        Whether the y axis has a log scale; None: where the values fall or rise far.
    marks
        Places on the x axis, and what is to be said there.
    """
    lines, words = [], []
    for i, (name, numbers) in enumerate(values.items()):
        found = [float(value) for value in numbers]
        end = next((k for k, value in enumerate(found) if not math.isfinite(value)), len(found))
        places = [float(place) for place in (range(len(found)) if at is None else at)]
        curve = Curve(places[:end], found[:end])
        told = f"{number(curve.y[0])} to {number(curve.y[-1])}" if end else "nothing"
        broken = f", and no number from {x} {number(places[end])} on" if end < len(found) else ""
        words.append(f"{name}: {told}{broken}")
        if end:
            lines.append(Line(name, curve, i, points=end == 1))
    text = f"{title}. {'. '.join(words)}."
    if not lines:
        return Nothing(title, text)
    low, high = (f(v for line in lines for v in line.curve.y) for f in (min, max))
    log = (low > 0 and high / low > SPREAD) if log is None else log
    return Lines(title, text, y + (" (log scale)" if log else ""), tuple(lines), log, x, marks=marks)


def _style(line: Line) -> dict[str, Any]:
    """How matplotlib draws a line, on the axes and in the legend."""
    if not line.strong:
        marker = "." if len(line.curve.x) == 1 else None
        return {"color": line.color, "lw": 0.8, "alpha": 0.45, "marker": marker}
    marker = MARKERS[line.index % len(MARKERS)][0] if line.marked else None
    return {"color": line.color, "lw": 1.7, "marker": marker, "ms": 4.2, "mec": "white", "mew": 0.6}


def _trace(line: Line) -> dict[str, Any]:
    x, y = reduce(line.curve)
    trace = {
        "type": "scatter",
        "x": [float(f"{step:.10g}") for step in x],
        "y": [float(f"{value:.6g}") for value in y],
        "name": html.escape(line.name),
        "mode": "lines+markers" if line.marked or len(x) == 1 else "lines",  # a line needs two points
        "line": {"color": line.color, "width": 2.2 if line.strong else 1.2},
        "opacity": 1 if line.strong else 0.65,
        "legendgroup": str(line.index),
        "showlegend": line.legend,
        "hovertemplate": "%{y:.5g}",
    }
    if line.marked:
        trace["marker"] = {"symbol": MARKERS[line.index % len(MARKERS)][1], "size": 7}
    return trace
