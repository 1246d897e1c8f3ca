"""What strategies of the same training come to: loss by step and by second, and bars of what they cost."""

from __future__ import annotations

import html
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..store.tracks import Curve
from .drawing import COLORS, CONFIG, INK, MARKERS, WIDTH, Chart, dress, head, layout, log_axis, plain
from .lines import roomy
from .series import number, reduce

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

THINNEST, THICKEST = 1.3, 5.0  # points: equal curves by step show as stripes, the first the widest
PLAIN = 1.7  # points, by second, where curves lie apart
STEPS, SECONDS = "optimizer steps", "seconds of training"


@dataclass(frozen=True)
class Racer:
    """One contestant."""

    name: str
    steps: Curve
    """Loss by optimizer step."""
    seconds: Curve
    """The same by seconds of training."""
    memory: float | None
    """Megabytes."""
    sent: float | None
    """Megabytes a step."""


@dataclass(frozen=True)
class Panels(Chart):
    """Two panels of curves, and below them a bar for each contestant's memory and bytes."""

    y: str
    """What the curves show."""
    memory: str
    """What memory is, with its unit."""
    racers: tuple[Racer, ...]
    log: bool = False
    span: tuple[float, float] | None = None
    """Lowest and highest loss to be seen, if curves that diverged leave the picture."""

    def plotly(self) -> dict[str, Any]:
        """The chart as plotly.js takes it."""
        described = layout(self.title)
        axis = described.pop("xaxis"), described.pop("yaxis")
        described["height"] = round(self._size()[1] * WIDTH)
        described["legend"]["y"] = -0.12
        bars = 0.36 * len(self.racers) / (1.5 + len(self.racers))
        panels = [
            ("", STEPS, self.y, (0.0, 0.46), (bars + 0.16, 1.0)),
            ("2", SECONDS, "", (0.54, 1.0), (bars + 0.16, 1.0)),
            ("3", self.memory, "", (0.0, 0.46), (0.0, bars)),
            ("4", self._sent(), "", (0.54, 1.0), (0.0, bars)),
        ]
        for key, x, y, across, up in panels:
            described[f"xaxis{key}"] = axis[0] | {"title": {"text": x, "standoff": 6}, "domain": across}
            described[f"xaxis{key}"] |= {"rangemode": "tozero", "anchor": f"y{key}"}
            described[f"yaxis{key}"] = axis[1] | {"title": {"text": y}, "domain": up, "anchor": f"x{key}"}
        described["yaxis2"]["matches"] = "y"
        if self.span:
            ends = [math.log10(end) if self.log else end for end in roomy(*self.span, self.log)]
            described["yaxis"]["range"] = ends
        if self.log:
            described["yaxis"] |= {"type": "log", "dtick": 1}
            described["yaxis2"] |= {"type": "log", "dtick": 1}
        described["yaxis3"] |= {"autorange": "reversed", "showgrid": False}
        described["yaxis4"] |= {"autorange": "reversed", "showgrid": False, "showticklabels": False, "matches": "y3"}
        data = [self._trace(i, racer.steps, "") for i, racer in enumerate(self.racers)]
        data += [self._trace(i, racer.seconds, "2") for i, racer in enumerate(self.racers)]
        data += [self._bars([racer.memory for racer in self.racers], "3")]
        data += [self._bars([racer.sent for racer in self.racers], "4")]
        return {"data": data, "layout": described, "config": CONFIG}

    def _trace(self, index: int, curve: Curve, key: str) -> dict[str, Any]:
        x, y = reduce(curve)
        return {
            "type": "scatter",
            "x": [float(f"{value:.6g}") for value in x],
            "y": [float(f"{value:.6g}") for value in y],
            "xaxis": f"x{key}",
            "yaxis": f"y{key}",
            "name": html.escape(self.racers[index].name),
            "mode": "lines",
            "line": {
                "color": _color(index),
                "width": 1.3 * (PLAIN if key else self._width(index)),
                "dash": _again(index, "dash", "solid"),
            },
            "legendgroup": str(index),
            "showlegend": not key,
            "hovertemplate": "%{y:.5g}",
        }

    def _bars(self, values: list[float | None], key: str) -> dict[str, Any]:
        return {
            "type": "bar",
            "orientation": "h",
            "x": values,
            "y": [html.escape(racer.name).replace(", ", ",<br>") for racer in self.racers],
            "xaxis": f"x{key}",
            "yaxis": f"y{key}",
            "text": [_told(value) for value in values],
            "textposition": "auto",
            "marker": {
                "color": [_color(i) for i in range(len(values))],
                "pattern": {"shape": [_again(i, "/", "") for i in range(len(values))]},
            },
            "showlegend": False,
            "hovertemplate": "%{y}: %{x:.4g} MB<extra></extra>",
        }

    def _sent(self) -> str:
        known = any(racer.sent is not None for racer in self.racers)
        return "MB sent a step, largest rank" if known else "bytes sent: not measured"

    def _width(self, index: int) -> float:
        n = len(self.racers) - 1
        return THINNEST + (THICKEST - THINNEST) * (n - index) / n if n else PLAIN

    def _size(self) -> tuple[float, float]:
        return 7.6, 4.2 + 0.34 * len(self.racers)

    def _draw(self, figure: Figure) -> None:
        n = len(self.racers)
        (steps, seconds), (memory, sent) = figure.subplots(2, 2, height_ratios=(2.6, 0.45 + 0.26 * n))
        seconds.sharey(steps)
        for i, racer in enumerate(self.racers):
            for axes, curve in ((steps, racer.steps), (seconds, racer.seconds)):
                x, y = reduce(curve)
                width = self._width(i) if axes is steps else PLAIN
                line = axes.plot(x, y, color=_color(i), lw=width, solid_capstyle="butt")[0]
                line.set_linestyle(_again(i, (0, (3, 1.5)), "-"))
                axes.plot(x[-1:], y[-1:], MARKERS[i % len(MARKERS)][0], color=_color(i), ms=5, mec="white", mew=0.6)
        for axes, label, up in ((steps, STEPS, self.y), (seconds, SECONDS, "")):
            axes.set_xlim(left=0)
            if self.log:
                log_axis(axes)
            if self.span:
                axes.set_ylim(*roomy(*self.span, self.log))
            dress(axes, label, up)
        self._stack(memory, [racer.memory for racer in self.racers], self.memory)
        memory.set_yticks(range(n), [plain(racer.name).replace(", ", ",\n") for racer in self.racers])
        self._stack(sent, [racer.sent for racer in self.racers], self._sent())
        sent.set_yticks(range(n), [""] * n)
        head(figure, self.title, size=11)

    def _stack(self, axes: Axes, values: list[float | None], label: str) -> None:
        """Horizontal bars from the top down, each with its value."""
        for i, value in enumerate(values):
            axes.barh(i, value or 0, color=_color(i), height=0.62, ec="white", hatch=_again(i, "////", ""))
            text = axes.annotate(_told(value), (value or 0, i), (4, 0), textcoords="offset points")
            text.set(va="center", fontsize=8.5, color=INK)
        axes.set_ylim(len(values) - 0.4, -0.6)
        if not any(values):
            axes.set_xticks([])
        axes.set_xlim(0, 1.22 * max((value for value in values if value), default=1))
        dress(axes, label, "")
        axes.grid(False)


def _color(index: int) -> str:
    return COLORS[index % len(COLORS)]


def _again(index: int, again: Any, first: Any) -> Any:
    """How the second round of the colours differs from the first."""
    return again if index >= len(COLORS) else first


def _told(value: float | None) -> str:
    return "not known" if value is None else number(value)
