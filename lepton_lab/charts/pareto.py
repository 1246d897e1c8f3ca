"""What compressions come to: accuracy against size, latency and energy, with seeds as error bars."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

from ..chains import chain_name, epochs
from ..errors import LabError
from ..files import read_json
from ..metrics import MEASURED
from ..spec import CELL
from ..store.finding import find
from ..store.folder import MEASURES
from ..store.provenance import command
from .drawing import GREY_ANYWHERE, Chart, Ends, Nothing, color, dress, head, legend, panel
from .series import number
from .traces import Trace

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..run.handle import Run
    from ..spec import Spec

BATCH = "64"
AXES = ("KB of the file", f"ms for a batch of {BATCH}", "mJ a sample (estimate)")
DENSE, CONTROL = "as trained", "as trained, then on for as long"
OF_SEED = ("seed", "parent", "name")
"""Fields in which runs of one point may differ."""
COMMAND = 90  # characters of a command in a line of what is shown on hover


@dataclass(frozen=True)
class Point:
    """One way to compress, over its seeds."""

    name: str
    command: str
    """Repeats the first of its runs."""
    accuracy: tuple[float, ...]
    """Fraction, of each seed."""
    costs: tuple[tuple[float, ...], ...]
    """For each axis, of each seed."""

    @property
    def dense(self) -> bool:
        """Whether it is a model before compression: drawn as a ring."""
        return self.name.startswith(DENSE) and not self.control

    @property
    def control(self) -> bool:
        """Whether it is one that only trained on: drawn hollow, since what is distilled is as large."""
        return self.name.startswith(CONTROL)


@dataclass(frozen=True)
class Pareto(Chart):
    """A panel of points for each axis; a line joins those that no other beats in both."""

    points: tuple[Point, ...]
    axes: tuple[str, ...] = AXES
    """What it costs, with its unit."""

    def _traces(self, layout: dict[str, Any]) -> list[dict[str, Any]]:
        layout["legend"]["y"] = -0.28
        traces = []
        for i, label in enumerate(self.axes):
            key, wide = str(i + 1) if i else "", 1 / len(self.axes)
            x = {"title": {"text": label}, "type": "log", "nticks": 3, "minor": {"showgrid": False}}
            y = {"title": {"text": "" if i else MEASURED}, "tickformat": ".1%", "showticklabels": not i}
            y |= {"matches": "y"} if i else {}
            panel(layout, key, x, y, across=(i * wide + (0.03 if i else 0.0), (i + 1) * wide - 0.01))
            traces += [trace.plotly(key) for trace in self._panel(i)]
        return traces

    def _panel(self, axis: int) -> list[Trace]:
        """The line of those that no other beats, and each point, against the costs of an axis."""
        points = [(i, point) for i, point in enumerate(self.points) if point.costs[axis]]
        best = front([(mean(point.costs[axis]), mean(point.accuracy)) for _, point in points])
        corners = [corner for (_, y), (x, above) in pairwise(best) for corner in ((x, y), (x, above))]
        x, y = zip(*best[:1], *corners, strict=True) if best else ((), ())
        line = Trace(x, y, GREY_ANYWHERE, width=1, dash="dot", legend=False, hover="")
        return [line, *(self._point(i, point, axis) for i, point in points)]

    def _point(self, index: int, point: Point, axis: int) -> Trace:
        x, across = spread(point.costs[axis])
        y, up = spread(point.accuracy)
        seeds = f"{len(point.accuracy)} seeds" if len(point.accuracy) > 1 else "1 seed"
        words = [html.escape(point.name), f"accuracy {y:.2%}{f' ± {up:.2%}' if up else ''} ({seeds})"]
        words += [f"{number(x)}{f' ± {number(across)}' if across else ''} {self.axes[axis]}"]
        lines = textwrap.wrap(point.command, COMMAND, break_on_hyphens=False)
        words += [f"<i>{html.escape(line)}</i>" for line in lines]
        return Trace(
            [x],
            [y],
            color(index),
            point.name,
            marker=0 if point.dense else index,
            size=10.5 if point.dense else 8 if point.control else 6,
            hollow=point.dense or point.control,  # what has the same costs stands within
            across=([across], [across]) if across else None,
            up=([up], [up]) if up else None,
            group=str(index),
            legend=axis == 0,
            hover="<br>".join(words) + "<extra></extra>",
        )

    def _size(self) -> Ends:
        return 7.6, 3.3 + 0.16 * -(-len(self.points) // 2)

    def _draw(self, figure: Figure) -> None:
        panels = figure.subplots(1, len(self.axes), sharey=True, squeeze=False)[0]
        for i, (axes, label) in enumerate(zip(panels, self.axes, strict=True)):
            axes.set_xscale("log")
            for trace in self._panel(i):
                trace.draw(axes)
            _ticks(axes)
            dress(axes, label, "" if i else MEASURED)
        legend(figure, 2, size=7.5)
        head(figure, self.title)


def _ticks(axes: Axes) -> None:
    """Few labels of a log scale upright, and accuracies in percent."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, PercentFormatter

    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=1))
    low, high = axes.get_xlim()
    subs = (1, 2, 5) if high < 100 * low else (1,)
    # Within a decade the labels of a log scale would be one, or all.
    narrow = MaxNLocator(3, steps=[1, 2, 5, 10]) if high < 10 * low else None
    axes.xaxis.set_major_locator(narrow or LogLocator(subs=subs, numticks=6))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(FuncFormatter(lambda *_: ""))


def pareto(runs: list[Run]) -> Chart:
    """Accuracy against size, latency and energy of runs that compressed, beside the models that they began with."""
    title = "Accuracy against what it costs"
    if made := points(runs):
        return against(title, made)
    ids = ", ".join(run.id for run in runs)
    return Nothing(title, f"{title}: no run here has compressed anything and ended ({ids}).")


def against(title: str, points: Iterable[Point], axes: tuple[str, ...] = AXES) -> Pareto:
    """The chart of points, with its words."""
    words = []
    for point in points:
        costs = (f"{number(mean(values))} {axis}" for values, axis in zip(point.costs, axes, strict=True) if values)
        words.append(f"{point.name}: accuracy {mean(point.accuracy):.2%}, {', '.join(costs)}")
    return Pareto(title, f"{title}. {'. '.join(words)}.", tuple(points), axes)


def points(runs: Iterable[Run]) -> list[Point]:
    """Runs that measured what they made, those that differ in nothing but the seed as one; the dense models first."""
    groups: dict[tuple[str, str], dict[str, tuple[Run, Mapping[str, Any]]]] = {}
    for run in runs:
        measures = (read_json(run.folder / MEASURES) if run.spec.compress else None) or {}
        test = (measures.get("control") or {}).get("test") or {}
        if test.get(MEASURED) is not None:  # it costs what the dense model costs, to which it is equal in shape
            measures = measures | {"control": measures["dense"] | {MEASURED: test[MEASURED]}}
        origin, parent = _origin(run), run.spec.parent
        # Several children of one parent measure the dense models again and again: once is enough.
        keys = (DENSE, origin, parent), (CONTROL, f"{origin} {epochs(run.spec)}", parent), ("", _key(run.spec), run.id)
        for name, (kind, key, once) in zip(("dense", "control", "artifact"), keys, strict=True):
            if name == "control" and not epochs(run.spec):
                continue  # it is the dense model
            if (measures.get(name) or {}).get(MEASURED) is not None:
                groups.setdefault((kind, key), {})[once] = (run, measures[name])
    ranked = sorted(groups.items(), key=lambda item: (DENSE, CONTROL, "").index(item[0][0]))
    named = [(kind, list(group.values())) for (kind, _), group in ranked]
    names = [kind or chain_name(group[0][0].spec.compress) for kind, group in named]
    return [_point(name, *of, names.count(name) == 1) for name, of in zip(names, named, strict=True)]


def _origin(run: Run) -> str:
    """What the parents of runs have in common that began with the same model but for the seed."""
    try:
        return _key(find(run.spec.parent).spec)
    except LabError:  # it is gone
        return str([run.spec.model, run.spec.dataset, run.spec.options])


def _point(name: str, kind: str, group: list[tuple[Run, Mapping[str, Any]]], only: bool) -> Point:
    """One point; `only`: whether no other has its name."""
    run, measures = group[0][0], [measures for _, measures in group]
    if not only:
        count = epochs(run.spec)
        length = "" if kind == DENSE else f", {count} epoch{'s' * (count != 1)}"
        name = f"{name} ({run.spec.model.removeprefix(CELL)} {run.spec.parent[-4:]}{length})"
    again = run.command
    if kind:
        try:
            parent = find(run.spec.parent)
            again = command(parent.spec, parent.id)
        except LabError:
            again = f"run {run.spec.parent}, which is gone"
    costs = (
        [each["bytes"] / 1e3 for each in measures],
        [each["latency"][BATCH]["median"] * 1e3 for each in measures if BATCH in each["latency"]],
        [each["joules"] * 1e3 for each in measures if each["joules"]],
    )
    return Point(name, again, tuple(each[MEASURED] for each in measures), tuple(map(tuple, costs)))


def front(values: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Of (cost, gain), those than which no other costs less and gains as much; in order of cost."""
    best: list[tuple[float, float]] = []
    for cost, gain in sorted(values, key=lambda value: (value[0], -value[1])):
        if not best or gain > best[-1][1]:
            best.append((cost, gain))
    return best


def spread(values: tuple[float, ...]) -> tuple[float, float]:
    """Mean and standard deviation over seeds; 0 of a single one."""
    return mean(values), stdev(values) if len(values) > 1 else 0.0


def _key(spec: Spec) -> str:
    return str({name: value for name, value in spec.to_dict().items() if name not in OF_SEED})
