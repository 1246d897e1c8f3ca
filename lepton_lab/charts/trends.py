"""How a figure goes with a setting, in means over seeds with their intervals."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..uncertainty import Interval, interval
from .drawing import COLORS, CONFIG, INK, MARKERS, Chart, Nothing, dress, layout, plain
from .series import number

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

WIDE = 8  # from this ratio of highest to lowest on, a log scale shows more
APART = 0.012  # of an axis: how far series stand apart, so that their bars can be told


@dataclass(frozen=True)
class Trends(Chart):
    """A line for each series; a bar at each setting."""

    x: str
    y: str
    """Labels of the axes, with their units."""
    series: dict[str, dict[float, Interval]]
    """Name -> setting -> mean over seeds."""

    def plotly(self) -> dict[str, Any]:
        """The chart as plotly.js takes it."""
        described = layout(self.title)
        for axis, label, log in (("xaxis", self.x, self._log(0)), ("yaxis", self.y, self._log(1))):
            described[axis] |= {"title": {"text": html.escape(label), "standoff": 6}}
            described[axis] |= {"type": "log", "dtick": "D2"} if log else {}
        if self._leave():
            described["yaxis"]["range"] = [math.log10(self._floor()), None]
        return {"data": [self._trace(i) for i in range(len(self.series))], "layout": described, "config": CONFIG}

    def _log(self, axis: int) -> bool:
        """Whether settings (0) or means (1) are above zero and reach far enough for a log scale."""
        points = [(x, found) for line in self.series.values() for x, found in line.items()]
        values = [found.mean if axis else x for x, found in points]
        return min(values) > 0 and max(values) / min(values) >= WIDE

    def _floor(self) -> float:
        """Where a log scale begins: intervals that go on to zero leave the chart there."""
        means = [found.mean for line in self.series.values() for found in line.values()]
        return min(means) / 2 if self._log(1) else -math.inf

    def _leave(self) -> bool:
        """Whether an interval leaves the chart."""
        floor = self._floor()
        return any(found.low < floor for line in self.series.values() for found in line.values())

    def _bars(self, line: dict[float, Interval]) -> tuple[list[float], list[float]]:
        """How far intervals reach below and above their means."""
        floor = self._floor()
        return [o.mean - max(o.low, floor) for o in line.values()], [o.high - o.mean for o in line.values()]

    def _places(self, index: int) -> list[float]:
        """Settings of a series, a little aside of those of the others."""
        every = [x for line in self.series.values() for x in line]
        low, high, shift = min(every), max(every), APART * (index - (len(self.series) - 1) / 2)
        if self._log(0):
            return [x * (high / low) ** shift for x in list(self.series.values())[index]]
        return [x + (high - low) * shift for x in list(self.series.values())[index]]

    def _trace(self, index: int) -> dict[str, Any]:
        name, line = list(self.series.items())[index]
        color = COLORS[index % len(COLORS)]
        below, above = self._bars(line)
        error = {"symmetric": False, "array": above, "arrayminus": below, "thickness": 1.3, "width": 4}
        return {
            "type": "scatter",
            "mode": "lines+markers",
            "x": self._places(index),
            "y": [found.mean for found in line.values()],
            "error_y": {"type": "data", "color": color, **error},
            "name": html.escape(name),
            "line": {"color": color, "width": 2},
            "marker": {"color": color, "size": 8, "symbol": MARKERS[index % len(MARKERS)][1]},
            "text": [f"{x:g}: {number(found.mean)}" for x, found in line.items()],
            "hovertemplate": "%{text}",
        }

    def _draw(self, figure: Figure) -> None:
        axes = figure.add_subplot()
        for i, (name, line) in enumerate(self.series.items()):
            style = {"color": COLORS[i % len(COLORS)], "fmt": f"{MARKERS[i % len(MARKERS)][0]}-", "label": plain(name)}
            means = [found.mean for found in line.values()]
            axes.errorbar(
                self._places(i), means, self._bars(line), **style, lw=1.4, ms=5, mec="white", mew=0.6, capsize=2.5
            )
        for side, one in enumerate((axes.xaxis, axes.yaxis)):
            if self._log(side):
                _log(one)
        if self._leave():
            axes.set_ylim(bottom=self._floor())
        dress(axes, self.x, self.y)
        figure.legend(loc="outside lower left", ncols=3, frameon=False, fontsize=8.5, labelcolor=INK)
        figure.suptitle(plain(self.title), x=0.012, ha="left", fontsize=11, fontweight="bold", color=INK)


def trends(title: str, values: Mapping[str, Mapping[float, Sequence[float]]], x: str, y: str) -> Chart:
    """
    Means over seeds of a figure by a setting, with 95 % intervals.

    Parameters
    ----------
    values
        Name of a series -> setting -> the figure with each seed. Settings with fewer than two finite figures are left
        out, such as learning rates at which runs diverged.
    x, y
        What the setting and the figure are, with their units.
    """
    found = {
        name: {setting: interval(line[setting]) for setting in sorted(line) if _told(line[setting])}
        for name, line in values.items()
    }
    found = {name: line for name, line in found.items() if line}
    if not found:
        return Nothing(title, f"{title}: no setting has two finite figures or more.")
    words = [
        f"{name}: " + ", ".join(f"{number(mean.mean)} at {number(setting)}" for setting, mean in line.items())
        for name, line in found.items()
    ]
    text = f"{title}: {y} by {x}, means over seeds with 95 % intervals. {'; '.join(words)}."
    return Trends(title, text, x, y, found)


def _log(axis: Axis) -> None:
    """A log scale that is told at 1, 2 and 5 of each decade: settings seldom reach over more than a few."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _told(values: Sequence[float]) -> bool:
    return len(values) > 1 and all(map(math.isfinite, values))
