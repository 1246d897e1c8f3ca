"""Curves over optimizer steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..store.tracks import Curve
from .drawing import Chart, Ends, Nothing, color, dress, head, legend, log_axis
from .series import diverged, number, reduce
from .traces import Mark, Trace

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
    def trace(self) -> Trace:
        """How it is drawn."""
        x, y = reduce(self.curve)
        few = self.strong and self.points and len(self.curve.x) <= FEW
        return Trace(
            x,
            y,
            color(self.index),
            self.name,
            width=1.7 if self.strong else 0.8,
            marker=self.index if few or len(x) == 1 else None,  # a line needs two points
            size=4.2,
            faint=not self.strong,
            group=str(self.index),
            legend=self.legend,
        )


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
    span: Ends | None = None
    """Lowest and highest value to be seen, if curves that diverged leave the picture."""
    wide: bool = False
    """Whether the x axis has a log scale, too; all on it is above 0."""

    def _traces(self, layout: dict[str, Any]) -> list[dict[str, Any]]:
        layout["xaxis"] |= {"title": {"text": self.x, "standoff": 6}, "rangemode": "tozero"}
        layout["xaxis"] |= {"type": "log", "dtick": 1} if self.wide else {}
        layout["yaxis"] |= {"title": {"text": self.y}} | ({"type": "log", "dtick": 1} if self.log else {})
        if self.lowest is not None:
            layout["yaxis"]["rangemode"] = "tozero"
        if self.highest is not None:
            layout["yaxis"]["autorangeoptions"] = {"maxallowed": self.highest + MARGIN}
        if self.span:
            layout["yaxis"]["range"] = [math.log10(end) if self.log else end for end in roomy(*self.span, self.log)]
        layout["hovermode"] = "x unified"
        for mark in self._marks():
            mark.plotly(layout)
        return [line.trace.plotly() for line in self.lines]

    def _marks(self) -> list[Mark]:
        """The marks; beside the y axis there is no room for a name on the left of its line."""
        edge = EDGE * max(line.curve.x[-1] for line in self.lines)
        return [Mark(step, what, after=step < edge) for step, what in self.marks]

    def _size(self) -> Ends:
        rows = -(-len(self._named()) // self._columns())
        return 6.0, 3.3 + 0.19 * rows

    def _named(self) -> list[str]:
        """Names in the legend."""
        return [line.name for line in self.lines if line.legend] if len(self.lines) > 1 else []

    def _columns(self) -> int:
        """Columns of the legend, by its longest name."""
        longest = max(map(len, self._named()), default=0)
        return 1 if longest > 30 else 2 if longest > 18 else 3

    def _draw(self, figure: Figure) -> None:
        from matplotlib.ticker import MaxNLocator

        axes = figure.add_subplot()
        for line in self.lines:
            line.trace.draw(axes)
        if self.log:
            log_axis(axes)
        if self.span:
            axes.set_ylim(*roomy(*self.span, self.log))
        high = axes.get_ylim()[1]
        if self.lowest is not None:
            axes.set_ylim(bottom=self.lowest)
        if self.highest is not None:
            axes.set_ylim(top=min(high, self.highest + MARGIN))
        for mark in self._marks():
            mark.draw(axes)
        end = max(line.curve.x[-1] for line in self.lines)
        if self.wide:
            axes.set_xscale("log")
        else:
            axes.set_xlim(0, None if end else 1)  # a single point at 0 leaves no room for ticks
        if not self.wide and all(float(x).is_integer() for line in self.lines for x in line.curve.x):
            axes.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True))
            axes.xaxis.set_major_formatter("{x:,.0f}")
        if not self.log and high >= 10_000:
            axes.yaxis.set_major_formatter("{x:,.0f}")
        dress(axes, self.x, self.y)
        head(figure, self.title, size=11)
        if self._named():
            legend(figure, self._columns())


def far(values: Sequence[float]) -> bool:
    """Whether values reach so far that a log scale shows more; all are above zero then."""
    return min(values) > 0 and max(values) / min(values) > SPREAD


def scaled(label: str, log: bool) -> str:
    """The label of an axis, with its scale where that is none of the usual kind."""
    return label + (" (log scale)" if log else "")


def losses(title: str, text: str, lines: Sequence[Line], names: Sequence[str], axis: str, marks: Marks = ()) -> Lines:
    """
    The chart of a metric that is better the lower it is, of the runs with these names.

    A curve that diverged leaves the picture, so that the others keep their shape; title and text then say which.
    """
    values = [[v for line in lines if line.index == i for v in line.curve.y] for i in range(len(names))]
    above = diverged(values)
    drawn = [v for i, each in enumerate(values) if i not in above for v in each]
    log, span = far(drawn), (min(drawn), max(drawn)) if above else None
    if above:
        title, text = leaving(title, text, [names[i] for i in above])
    return Lines(title, text, scaled(axis, log), tuple(lines), log, marks=marks, span=span)


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
        heights = [float(value) for value in numbers]
        end = next((k for k, value in enumerate(heights) if not math.isfinite(value)), len(heights))
        places = [float(place) for place in (range(len(heights)) if at is None else at)]
        curve = Curve(places[:end], heights[:end])
        ends = f"{number(curve.y[0])} to {number(curve.y[-1])}" if end else "nothing"
        broken = f", and no number from {x} {number(places[end])} on" if end < len(heights) else ""
        words.append(f"{name}: {ends}{broken}")
        if end:
            lines.append(Line(name, curve, i, points=end == 1))
    text = f"{title}. {'. '.join(words)}."
    if not lines:
        return Nothing(title, text)
    log = far([v for line in lines for v in line.curve.y]) if log is None else log
    return Lines(title, text, scaled(y, log), tuple(lines), log, x, marks=marks)
