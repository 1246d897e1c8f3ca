"""Arms of an experiment side by side: every seed, the means with their intervals, and the differences."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .drawing import GREY, GREY_ANYWHERE, INK, Chart, Ends, color, dress, head, panel, plain
from .series import number
from .traces import Trace

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..stats import Interval

BELOW = 0.24  # rows that the single seeds stand below the mean of their arm


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
        means = [_mean(arm.name, arm.mean, i) for i, arm in enumerate(self.arms)]
        return [*joined, points, *means], [_mean(arm.name, arm.gap, i) for i, arm in enumerate(self.arms) if arm.gap]

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


def _mean(name: str, mean: Interval, row: int) -> Trace:
    """A mean with its interval."""
    words = f"{number(mean.mean)} (95 % interval {number(mean.low)} to {number(mean.high)})"
    hover = f"{html.escape(name)}: {words}<extra></extra>"
    half = [mean.high - mean.mean]
    return Trace([mean.mean], [row], color(row), name, marker=row, across=(half, half), hover=hover)
