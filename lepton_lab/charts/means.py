"""Means over seeds with their intervals: arms of an experiment side by side, and how a figure goes with a setting."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..stats import Interval, interval
from .drawing import GREY, GREY_ANYWHERE, INK, Chart, Ends, Nothing, color, dress, head, legend, panel, plain
from .results import row
from .series import number
from .traces import Trace

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BELOW = 0.24  # rows that the single seeds of an arm stand below its mean
WIDE = 8  # from this ratio of highest to lowest on, a log scale shows more
APART = 0.012  # of an axis: how far series stand apart, so that their bars can be told


@dataclass(frozen=True)
class Arm:
    """One way to do it."""

    name: str
    values: tuple[float, ...]
    """Of each seed, in the same order for every arm."""
    mean: Interval
    gap: Interval | None
    """How much more than the first arm; None of the first."""


@dataclass(frozen=True)
class Arms(Chart):
    """Left: values of each seed, joined, and means. Right: differences to the first arm, of which zero is none."""

    x: str
    """What is measured, with its unit."""
    unit: str
    """Of a difference."""
    arms: tuple[Arm, ...]

    def _traces(self, layout: dict[str, Any]) -> list[dict[str, Any]]:
        names = [html.escape(arm.name) for arm in self.arms]
        rows = {"tickvals": list(range(len(names))), "ticktext": names, "range": [len(names) - 0.4, -0.5]}
        beside = {"matches": "y", "showticklabels": False}
        layout["showlegend"] = False
        panel(layout, "", {"title": _label(self.x)}, rows, across=(0, 0.56))
        panel(layout, "2", {"title": _label(self._more())}, rows | beside, across=(0.62, 1))
        zero = {"type": "line", "xref": "x2", "x0": 0, "x1": 0, "yref": "paper", "y0": 0, "y1": 1}
        layout["shapes"].append(zero | {"line": {"color": GREY_ANYWHERE, "width": 1, "dash": "dot"}})
        values, gaps = self._panels()
        return [*(trace.plotly() for trace in values), *(trace.plotly("2") for trace in gaps)]

    def _panels(self) -> tuple[list[Trace], list[Trace]]:
        """What stands on the left, and on the right."""
        rows = [row + BELOW for row in range(len(self.arms))]
        seeds = list(zip(*(arm.values for arm in self.arms), strict=True))
        joined = [Trace(seed, rows, GREY_ANYWHERE, width=0.7, faint=True, hover="") for seed in seeds]
        values, places = [value for seed in seeds for value in seed], rows * len(seeds)
        hover = "%{x:.5g}<extra>a seed</extra>"
        points = Trace(values, places, GREY_ANYWHERE, marker=0, size=3, hollow=True, hover=hover)
        means = [row(arm.name, arm.mean, i) for i, arm in enumerate(self.arms)]
        return [*joined, points, *means], [row(arm.name, arm.gap, i) for i, arm in enumerate(self.arms) if arm.gap]

    def _more(self) -> str:
        unit = f" ({self.unit})" if self.unit else ""
        return f"more than {self.arms[0].name}{unit}"

    def _size(self) -> Ends:
        return 7.6, 1.25 + 0.46 * len(self.arms)

    def _draw(self, figure: Figure) -> None:
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=[1.5, 1])
        right.axvline(0, color=GREY, lw=0.8, ls=":", zorder=1)
        left.set_yticks(range(len(self.arms)), [plain(arm.name) for arm in self.arms])
        left.set_ylim(len(self.arms) - 0.4, -0.5)
        for axes, traces, label in zip((left, right), self._panels(), (self.x, self._more()), strict=True):
            for trace in traces:
                trace.draw(axes)
            dress(axes, plain(label), "")
            axes.grid(False, axis="y")
            axes.tick_params(axis="y", length=0, labelcolor=INK)
        head(figure, self.title)


def _label(text: str) -> dict[str, Any]:
    """The name of an axis: small, and its unit on a line of its own, so that two fit side by side on a phone."""
    return {"text": html.escape(text).replace(" (", "<br>("), "font": {"size": 12}}


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
