"""How a figure goes with a setting, in means over seeds with their intervals."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..stats import Interval, interval
from .drawing import COLORS, CONFIG, INK, MARKERS, Chart, Nothing, dress, head, layout, plain
from .series import number

if TYPE_CHECKING:
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
        settings = self._settings()
        described["xaxis"] |= {"title": {"text": html.escape(self.x), "standoff": 6}, "tickvals": settings}
        described["xaxis"] |= {"ticktext": [f"{x:g}" for x in settings]} | ({"type": "log"} if self._log(0) else {})
        described["yaxis"] |= {"title": {"text": html.escape(self.y)}}
        described["yaxis"] |= {"type": "log", "dtick": "D2"} if self._log(1) else {}
        if self._leave():
            described["yaxis"]["range"] = [math.log10(self._floor()), None]
        return {"data": [self._trace(i) for i in range(len(self.series))], "layout": described, "config": CONFIG}

    def _settings(self) -> list[float]:
        return sorted({x for line in self.series.values() for x in line})

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
        settings, shift = self._settings(), APART * (index - (len(self.series) - 1) / 2)
        if self._log(0):
            return [x * (settings[-1] / settings[0]) ** shift for x in list(self.series.values())[index]]
        return [x + (settings[-1] - settings[0]) * shift for x in list(self.series.values())[index]]

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
        from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

        axes = figure.add_subplot()
        for i, (name, line) in enumerate(self.series.items()):
            style: dict[str, Any] = {"color": COLORS[i % len(COLORS)], "label": plain(name)}
            style["fmt"] = f"{MARKERS[i % len(MARKERS)][0]}-"
            means = [found.mean for found in line.values()]
            axes.errorbar(
                self._places(i), means, self._bars(line), **style, lw=1.4, ms=5, mec="white", mew=0.6, capsize=2.5
            )
        if self._log(0):
            axes.set_xscale("log")
        axes.set_xticks(self._settings(), [f"{x:g}" for x in self._settings()])
        axes.set_xticks([], minor=True)
        if self._log(1):
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
        if self._leave():
            axes.set_ylim(bottom=self._floor())
        dress(axes, self.x, self.y)
        figure.legend(loc="outside lower left", ncols=3, frameon=False, fontsize=8.5, labelcolor=INK)
        head(figure, self.title, size=11)


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


def _told(values: Sequence[float]) -> bool:
    return len(values) > 1 and all(map(math.isfinite, values))
