"""Arms of an experiment side by side: every seed, the means with their intervals, and the differences."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .drawing import COLORS, CONFIG, GREY, GREY_ANYWHERE, INK, MARKERS, Chart, dress, head, layout, plain
from .series import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..stats import Interval

BELOW = 0.24  # rows that the single seeds stand below the mean of their arm
SEEDS = "rgba(128,128,128,0.45)"


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

    def plotly(self) -> dict[str, Any]:
        """The chart as plotly.js takes it."""
        described = layout(self.title)
        axis, up = described.pop("xaxis"), described.pop("yaxis")
        names = [html.escape(arm.name) for arm in self.arms]
        rows = {"tickvals": list(range(len(names))), "ticktext": names, "range": [len(names) - 0.4, -0.5]}
        described["height"] = 150 + 56 * len(names)
        described["showlegend"] = False
        described["xaxis"] = axis | {"title": _label(self.x), "domain": [0, 0.56], "anchor": "y"}
        described["xaxis2"] = axis | {"title": _label(self._more()), "domain": [0.62, 1], "anchor": "y2"}
        described["yaxis"] = up | rows
        described["yaxis2"] = up | rows | {"anchor": "x2", "matches": "y", "showticklabels": False}
        zero = {"type": "line", "xref": "x2", "x0": 0, "x1": 0, "yref": "paper", "y0": 0, "y1": 1}
        described["shapes"].append(zero | {"line": {"color": GREY_ANYWHERE, "width": 1, "dash": "dot"}})
        seeds = [self._seed(i) for i in range(len(self.arms[0].values))]
        means = [_mean(arm.name, arm.mean, i, "") for i, arm in enumerate(self.arms)]
        gaps = [_mean(arm.name, arm.gap, i, "2") for i, arm in enumerate(self.arms) if arm.gap]
        return {"data": [*seeds, *means, *gaps], "layout": described, "config": CONFIG}

    def _seed(self, index: int) -> dict[str, Any]:
        """One seed under every arm."""
        return {
            "type": "scatter",
            "mode": "lines+markers",
            "x": [arm.values[index] for arm in self.arms],
            "y": [row + BELOW for row in range(len(self.arms))],
            "line": {"color": SEEDS, "width": 1},
            "marker": {"color": GREY_ANYWHERE, "size": 5, "symbol": "circle-open"},
            "hovertemplate": "%{x:.5g}<extra>a seed</extra>",
        }

    def _more(self) -> str:
        unit = f" ({self.unit})" if self.unit else ""
        return f"more than {self.arms[0].name}{unit}"

    def _size(self) -> tuple[float, float]:
        return 7.6, 1.25 + 0.46 * len(self.arms)

    def _draw(self, figure: Figure) -> None:
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=[1.5, 1])
        for index in range(len(self.arms[0].values)):
            rows = [row + BELOW for row in range(len(self.arms))]
            values = [arm.values[index] for arm in self.arms]
            left.plot(values, rows, color="#c4cad1", lw=0.7, marker="o", ms=3, mfc="white", mec=GREY, mew=0.6, zorder=2)
        right.axvline(0, color=GREY, lw=0.8, ls=":", zorder=1)
        for row, arm in enumerate(self.arms):
            _bar(left, arm.mean, row)
            if arm.gap:
                _bar(right, arm.gap, row)
        left.set_yticks(range(len(self.arms)), [plain(arm.name) for arm in self.arms])
        left.set_ylim(len(self.arms) - 0.4, -0.5)
        dress(left, plain(self.x), "")
        dress(right, plain(self._more()), "")
        left.grid(False, axis="y")
        right.grid(False, axis="y")
        left.tick_params(axis="y", length=0, labelcolor=INK)
        right.tick_params(axis="y", length=0)
        head(figure, self.title)


def _label(text: str) -> dict[str, Any]:
    """The name of an axis: small, and its unit on a line of its own, so that two fit side by side on a phone."""
    return {"text": html.escape(text).replace(" (", "<br>("), "font": {"size": 12}}


def _bar(axes: Axes, found: Interval, row: int) -> None:
    """A mean with its interval."""
    shape, color = MARKERS[row % len(MARKERS)][0], COLORS[row % len(COLORS)]
    half = found.high - found.mean
    axes.errorbar(found.mean, row, xerr=half, fmt=shape, color=color, ms=6, mec="white", mew=0.6, capsize=3, zorder=3)


def _mean(name: str, found: Interval, row: int, key: str) -> dict[str, Any]:
    color = COLORS[row % len(COLORS)]
    told = f"{number(found.mean)} (95 % interval {number(found.low)} to {number(found.high)})"
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [found.mean],
        "y": [row],
        "xaxis": f"x{key}",
        "yaxis": f"y{key}",
        "error_x": {"type": "data", "array": [found.high - found.mean], "thickness": 1.5, "width": 5, "color": color},
        "marker": {"size": 11, "color": color, "symbol": MARKERS[row % len(MARKERS)][1]},
        "hovertemplate": f"{html.escape(name)}: {told}<extra></extra>",
    }
