"""How a figure goes with a setting, in means over seeds with their intervals."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..stats import Interval, interval
from .drawing import Chart, Nothing, color, dress, head, legend
from .series import number
from .traces import Trace

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

    def _traces(self, layout: dict[str, Any]) -> list[dict[str, Any]]:
        settings = self._settings()
        layout["xaxis"] |= {"title": {"text": html.escape(self.x), "standoff": 6}, "tickvals": settings}
        layout["xaxis"] |= {"ticktext": [f"{x:g}" for x in settings]} | ({"type": "log"} if self._log(0) else {})
        layout["yaxis"] |= {"title": {"text": html.escape(self.y)}}
        layout["yaxis"] |= {"type": "log", "dtick": "D2"} if self._log(1) else {}
        if self._leave():
            layout["yaxis"]["range"] = [math.log10(self._floor()), None]
        return [
            trace.plotly() | {"text": [f"{x:g}: {number(interval.mean)}" for x, interval in line.items()]}
            for trace, line in zip(self._lines(), self.series.values(), strict=True)
        ]

    def _lines(self) -> list[Trace]:
        """A trace for each series; its settings stand a little aside of those of the others."""
        settings, floor, lines = self._settings(), self._floor(), []
        for i, (name, line) in enumerate(self.series.items()):
            shift = APART * (i - (len(self.series) - 1) / 2)
            wide = settings[-1] / settings[0] if self._log(0) else settings[-1] - settings[0]
            x = [setting * wide**shift if self._log(0) else setting + wide * shift for setting in line]
            bars = [o.mean - max(o.low, floor) for o in line.values()], [o.high - o.mean for o in line.values()]
            y = [interval.mean for interval in line.values()]
            lines.append(Trace(x, y, color(i), name, width=1.4, marker=i, size=5, up=bars, hover="%{text}"))
        return lines

    def _settings(self) -> list[float]:
        return sorted({x for line in self.series.values() for x in line})

    def _log(self, axis: int) -> bool:
        """Whether settings (0) or means (1) are above zero and reach far enough for a log scale."""
        values = [mean.mean if axis else x for line in self.series.values() for x, mean in line.items()]
        return min(values) > 0 and max(values) / min(values) >= WIDE

    def _floor(self) -> float:
        """Where a log scale begins: intervals that go on to zero leave the chart there."""
        means = [interval.mean for line in self.series.values() for interval in line.values()]
        return min(means) / 2 if self._log(1) else -math.inf

    def _leave(self) -> bool:
        """Whether an interval leaves the chart."""
        floor = self._floor()
        return any(interval.low < floor for line in self.series.values() for interval in line.values())

    def _draw(self, figure: Figure) -> None:
        from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

        axes = figure.add_subplot()
        for trace in self._lines():
            trace.draw(axes)
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
        legend(figure, 3)
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
    series = {
        name: {setting: interval(line[setting]) for setting in sorted(line) if _finite(line[setting])}
        for name, line in values.items()
    }
    series = {name: line for name, line in series.items() if line}
    if not series:
        return Nothing(title, f"{title}: no setting has two finite figures or more.")
    words = [
        f"{name}: " + ", ".join(f"{number(mean.mean)} at {number(setting)}" for setting, mean in line.items())
        for name, line in series.items()
    ]
    text = f"{title}: {y} by {x}, means over seeds with 95 % intervals. {'; '.join(words)}."
    return Trends(title, text, x, y, series)


def _finite(values: Sequence[float]) -> bool:
    """Whether there are figures enough for an interval, and all are numbers."""
    return len(values) > 1 and all(map(math.isfinite, values))
