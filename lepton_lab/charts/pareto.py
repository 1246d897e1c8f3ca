"""What compressions come to: accuracy against size, latency and energy, with seeds as error bars."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

from ..chains import chain_name, epochs
from ..metrics import MEASURED
from .drawing import COLORS, CONFIG, GREY, INK, MARKERS, Chart, Nothing, dress, head, layout, plain
from .series import number

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

    def plotly(self) -> dict[str, Any]:
        """The chart as plotly.js takes it."""
        described = layout(self.title)
        axis, up = described.pop("xaxis"), described.pop("yaxis")
        described["height"] = 420
        described["legend"]["y"] = -0.28
        data = []
        for i, label in enumerate(self.axes):
            key, wide = str(i + 1) if i else "", 1 / len(self.axes)
            domain = (i * wide + (0.03 if i else 0.0), (i + 1) * wide - 0.01)
            described[f"xaxis{key}"] = axis | {"title": {"text": label}, "type": "log", "domain": domain}
            described[f"xaxis{key}"] |= {"anchor": f"y{key}", "nticks": 3, "minor": {"showgrid": False}}
            described[f"yaxis{key}"] = up | {"anchor": f"x{key}", "tickformat": ".1%"}
            described[f"yaxis{key}"] |= {"title": {"text": "" if i else MEASURED}, "showticklabels": not i}
            described[f"yaxis{key}"] |= {"matches": "y"} if i else {}
            data.append(self._line(i, key))
            data += [self._trace(point, j, i, key) for j, point in enumerate(self.points) if point.costs[i]]
        return {"data": data, "layout": described, "config": CONFIG}

    def _trace(self, point: Point, index: int, axis: int, key: str) -> dict[str, Any]:
        x, across = spread(point.costs[axis])
        y, up = spread(point.accuracy)
        seeds = f"{len(point.accuracy)} seeds" if len(point.accuracy) > 1 else "1 seed"
        told = [html.escape(point.name), f"accuracy {y:.2%}{f' ± {up:.2%}' if up else ''} ({seeds})"]
        told += [f"{number(x)}{f' ± {number(across)}' if across else ''} {self.axes[axis]}"]
        told += [f"<i>{line}</i>" for line in _wrapped(point.command)]
        return {
            "type": "scatter",
            "mode": "markers",
            "x": [x],
            "y": [y],
            "xaxis": f"x{key}",
            "yaxis": f"y{key}",
            "error_x": {"array": [across], "visible": bool(across), "thickness": 1},
            "error_y": {"array": [up], "visible": bool(up), "thickness": 1},
            "marker": {"color": _color(index), **_symbol(point, index)},
            "name": html.escape(point.name),
            "legendgroup": str(index),
            "showlegend": axis == 0,
            "hovertemplate": "<br>".join(told) + "<extra></extra>",
        }

    def _line(self, axis: int, key: str) -> dict[str, Any]:
        x, y = self._front(axis)
        line = {"color": "rgba(128,128,128,0.55)", "width": 1.5, "dash": "dot", "shape": "hv"}
        shared = {"xaxis": f"x{key}", "yaxis": f"y{key}", "hoverinfo": "skip", "showlegend": False}
        return {"type": "scatter", "mode": "lines", "x": x, "y": y, "line": line, **shared}

    def _front(self, axis: int) -> tuple[list[float], list[float]]:
        means = [(mean(p.costs[axis]), mean(p.accuracy)) for p in self.points if p.costs[axis]]
        return tuple(map(list, zip(*front(means), strict=True))) if means else ([], [])  # type: ignore[return-value]

    def _size(self) -> tuple[float, float]:
        return 7.6, 3.3 + 0.16 * -(-len(self.points) // 2)

    def _draw(self, figure: Figure) -> None:
        panels = figure.subplots(1, len(self.axes), sharey=True, squeeze=False)[0]
        for i, (axes, label) in enumerate(zip(panels, self.axes, strict=True)):
            self._panel(axes, i)
            dress(axes, label, "" if i else MEASURED)
        handles, names = panels[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower left", ncols=2, fontsize=7.5, frameon=False, labelcolor=INK)
        head(figure, self.title)

    def _panel(self, axes: Axes, axis: int) -> None:
        from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, PercentFormatter

        axes.set_xscale("log")
        axes.step(*self._front(axis), where="post", color=GREY, lw=1, ls=":", zorder=1)
        for j, point in enumerate(self.points):
            if point.costs[axis]:
                (x, across), (y, up) = spread(point.costs[axis]), spread(point.accuracy)
                bars: dict[str, Any] = {"xerr": across or None, "yerr": up or None}
                bars |= {"elinewidth": 0.9, "capsize": 2, "ms": 6}
                shape = MARKERS[j % len(MARKERS)][0]
                bars |= {"fmt": shape, "color": _color(j), "mec": "white", "mew": 0.6}
                if point.dense or point.control:  # what has the same costs stands within
                    bars |= {"ms": 10.5 if point.dense else 8, "mfc": "none", "mec": _color(j), "mew": 1.4}
                if point.dense:
                    bars["fmt"] = "o"
                axes.errorbar(x, y, label=plain(point.name), **bars)
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
    found = points(runs)
    if not found:
        ids = ", ".join(run.id for run in runs)
        return Nothing(title, f"{title}: no run here has compressed anything and ended ({ids}).")
    words = []
    for point in found:
        costs = (f"{number(mean(c))} {label}" for c, label in zip(point.costs, AXES, strict=True) if c)
        words.append(f"{point.name}: accuracy {mean(point.accuracy):.2%}, {', '.join(costs)}")
    return Pareto(title, f"{title}. {'. '.join(words)}.", tuple(found))


def points(runs: Iterable[Run]) -> list[Point]:
    """Runs that measured what they made, those that differ in nothing but the seed as one; the dense models first."""
    from ..files import read_json
    from ..store.folder import MEASURES

    groups: dict[tuple[str, str], dict[str, tuple[Run, Mapping[str, Any]]]] = {}
    for run in runs:
        told = read_json(run.folder / MEASURES) if run.spec.compress else None
        told = told or {}
        test = (told.get("control") or {}).get("test") or {}
        if test.get(MEASURED) is not None:  # it costs what the dense model costs, to which it is equal in shape
            told = told | {"control": told["dense"] | {MEASURED: test[MEASURED]}}
        origin, parent = _origin(run), run.spec.parent
        # Several children of one parent measure the dense models again and again: once is enough.
        keys = (DENSE, origin, parent), (CONTROL, f"{origin} {epochs(run.spec)}", parent), ("", _key(run.spec), run.id)
        for name, (kind, key, once) in zip(("dense", "control", "artifact"), keys, strict=True):
            if name == "control" and not epochs(run.spec):
                continue  # it is the dense model
            if (told.get(name) or {}).get(MEASURED) is not None:
                groups.setdefault((kind, key), {})[once] = (run, told[name])
    ranked = sorted(groups.items(), key=lambda item: (DENSE, CONTROL, "").index(item[0][0]))
    named = [(kind, list(group.values())) for (kind, _), group in ranked]
    names = [kind or chain_name(group[0][0].spec.compress) for kind, group in named]
    return [_point(name, *of, names.count(name) == 1) for name, of in zip(names, named, strict=True)]


def _origin(run: Run) -> str:
    """What the parents of runs have in common that began with the same model but for the seed."""
    from ..errors import LabError
    from ..store.finding import find

    try:
        return _key(find(run.spec.parent).spec)
    except LabError:  # it is gone
        return str([run.spec.model, run.spec.dataset, run.spec.options])


def _point(name: str, kind: str, group: list[tuple[Run, Mapping[str, Any]]], only: bool) -> Point:
    """One point; `only`: whether no other has its name."""
    from ..errors import LabError
    from ..spec import CELL
    from ..store.finding import find
    from ..store.provenance import command

    run = group[0][0]
    accuracy, costs = tuple(told[MEASURED] for _, told in group), tuple(_costs(told for _, told in group))
    if not only:
        count = epochs(run.spec)
        length = "" if kind == DENSE else f", {count} epoch{'s' * (count != 1)}"
        name = f"{name} ({run.spec.model.removeprefix(CELL)} {run.spec.parent[-4:]}{length})"
    if not kind:
        return Point(name, run.command, accuracy, costs)
    try:
        parent = find(run.spec.parent)
        return Point(name, command(parent.spec, parent.id), accuracy, costs)
    except LabError:
        return Point(name, f"run {run.spec.parent}, which is gone", accuracy, costs)


def _costs(measured: Iterable[Mapping[str, Any]]) -> Iterable[tuple[float, ...]]:
    told = list(measured)
    reads: tuple[Callable[[Mapping[str, Any]], float | None], ...] = (
        lambda m: m["bytes"] / 1e3,
        lambda m: m["latency"][BATCH]["median"] * 1e3 if BATCH in m["latency"] else None,
        lambda m: m["joules"] * 1e3,
    )
    for read in reads:
        yield tuple(value for m in told if (value := read(m)))


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


def _symbol(point: Point, index: int) -> dict[str, Any]:
    """Shape and size of a point of plotly's."""
    shape = MARKERS[index % len(MARKERS)][1]
    if point.dense:
        return {"size": 17, "symbol": "circle-open", "line": {"width": 2}}
    return (
        {"size": 13, "symbol": f"{shape}-open", "line": {"width": 2}} if point.control else {"size": 9, "symbol": shape}
    )


def _color(index: int) -> str:
    return COLORS[index % len(COLORS)]


def _wrapped(text: str) -> list[str]:
    import textwrap

    return [html.escape(line) for line in textwrap.wrap(text, COMMAND, break_on_hyphens=False)]
