"""What strategies of the same training come to: loss by step and by second, and bars of what they cost."""

from __future__ import annotations

import html
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..metrics import MINIMISED
from ..store.tracks import Curve
from .drawing import COLORS, INK, Chart, Ends, Nothing, color, dress, head, log_axis, panel, plain
from .lines import far, leaving, roomy, scaled
from .series import contestants, diverged, footprint, in_words, number, read, reduce
from .traces import Trace

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..run.handle import Run

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
    span: Ends | None = None
    """Lowest and highest loss to be seen, if curves that diverged leave the picture."""

    def _traces(self, layout: dict[str, Any]) -> list[dict[str, Any]]:
        layout["legend"]["y"] = -0.12
        bars = 0.36 * len(self.racers) / (1.5 + len(self.racers))
        left, right, above, below = (0.0, 0.46), (0.54, 1.0), (bars + 0.16, 1.0), (0.0, bars)
        loss: dict[str, Any] = {"type": "log", "dtick": 1} if self.log else {}
        first = {"title": {"text": self.y}} | loss
        if self.span:
            first["range"] = [math.log10(end) if self.log else end for end in roomy(*self.span, self.log)]
        names = {"autorange": "reversed", "showgrid": False}
        again = {"showticklabels": False, "matches": "y3"}
        panel(layout, "", _from_zero(STEPS), first, left, above)
        panel(layout, "2", _from_zero(SECONDS), loss | {"matches": "y"}, right, above)
        panel(layout, "3", _from_zero(self.memory), names, left, below)
        panel(layout, "4", _from_zero(self._sent()), names | again, right, below)
        return [
            *(self._curve(i, racer.steps, by_step=True).plotly() for i, racer in enumerate(self.racers)),
            *(self._curve(i, racer.seconds, by_step=False).plotly("2") for i, racer in enumerate(self.racers)),
            self._bars([racer.memory for racer in self.racers], "3"),
            self._bars([racer.sent for racer in self.racers], "4"),
        ]

    def _curve(self, index: int, curve: Curve, by_step: bool) -> Trace:
        return Trace(
            *reduce(curve),
            color(index),
            self.racers[index].name,
            width=self._width(index) if by_step else PLAIN,
            dash=_again(index, "dash", "solid"),
            group=str(index),
            legend=by_step,
        )

    def _bars(self, values: list[float | None], key: str) -> dict[str, Any]:
        return {
            "type": "bar",
            "orientation": "h",
            "x": values,
            "y": [html.escape(racer.name).replace(", ", ",<br>") for racer in self.racers],
            "xaxis": f"x{key}",
            "yaxis": f"y{key}",
            "text": [_words(value) for value in values],
            "textposition": "auto",
            "marker": {
                "color": [color(i) for i in range(len(values))],
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

    def _size(self) -> Ends:
        return 7.6, 4.2 + 0.34 * len(self.racers)

    def _draw(self, figure: Figure) -> None:
        n = len(self.racers)
        (steps, seconds), (memory, sent) = figure.subplots(2, 2, height_ratios=(2.6, 0.45 + 0.26 * n))
        seconds.sharey(steps)
        for i, racer in enumerate(self.racers):
            for axes, curve in ((steps, racer.steps), (seconds, racer.seconds)):
                self._curve(i, curve, by_step=axes is steps).draw(axes)
                Trace(curve.x[-1:], curve.y[-1:], color(i), marker=i, size=5).draw(axes)
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
            axes.barh(i, value or 0, color=color(i), height=0.62, ec="white", hatch=_again(i, "////", ""))
            text = axes.annotate(_words(value), (value or 0, i), (4, 0), textcoords="offset points")
            text.set(va="center", fontsize=8.5, color=INK)
        axes.set_ylim(len(values) - 0.4, -0.6)
        if not any(values):
            axes.set_xticks([])
        axes.set_xlim(0, 1.22 * max((value for value in values if value), default=1))
        dress(axes, label, "")
        axes.grid(False)


def _from_zero(label: str) -> dict[str, Any]:
    """An x axis of plotly's."""
    return {"title": {"text": label, "standoff": 6}, "rangemode": "tozero"}


def _again(index: int, again: Any, first: Any) -> Any:
    """How the second round of the colours differs from the first."""
    return again if index >= len(COLORS) else first


def _words(value: float | None) -> str:
    return "not known" if value is None else number(value)


def race(runs: list[Run]) -> Chart:
    """Strategies side by side: training loss by step and by second, memory, and bytes sent."""
    title = "Strategies side by side"
    footprints = [footprint(run) for run in runs]
    tensors = all(needs.tensors is not None for needs in footprints)
    racers, words = [], []
    for run, name, needs in zip(runs, contestants(runs), footprints, strict=True):
        story = read(run)
        curve = story.curves.get(MINIMISED, Curve([], []))
        at = dict(zip(*story.clock, strict=True))
        timed = Curve([at[step] for step in curve.x], curve.y)
        memory = needs.tensors if tensors else needs.memory
        racers.append(Racer(name, curve, timed, _mega(memory), _mega(needs.sent)))
        words.append(f"{name}: {in_words(curve)} in {number(timed.x[-1])} s" if curve.x else f"{name}: nothing")
    if not any(racer.steps.x for racer in racers):
        return Nothing(title, f"{title}: no run has any step yet ({', '.join(run.id for run in runs)}).")
    above = diverged(racer.steps.y for racer in racers)
    values = [value for i, racer in enumerate(racers) if i not in above for value in racer.steps.y]
    log, span = far(values), (min(values), max(values)) if above else None
    text = f"{title}: training loss by optimizer step and by seconds of training. {'. '.join(words)}."
    if above:
        title, text = leaving(title, text, [racers[i].name for i in above])
    kind = "MB of tensors, largest rank" if tensors else "MB of memory, largest rank's process"
    return Panels(title, text, scaled("training loss", log), kind, tuple(racers), log, span)


def _mega(count: float | None) -> float | None:
    return None if count is None else count / 1e6
