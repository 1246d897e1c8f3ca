"""What each rank did over a few steps, and who sent what to whom."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..store.naming import labels
from ..strategies.work import shown as size
from .drawing import COLORS, GREY, GREY_ANYWHERE, INK, Chart, Ends, Nothing, dress, head, legend, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..run.handle import Run

# What is drawn how: work above, communication below it in each rank's lane.
LOOKS = {
    "forward": ("#8cc0dd", ""),
    "backward": (COLORS[0], ""),
    "update": ("#003a5c", ""),
    "kernels": (COLORS[0], ""),
    "communication": (COLORS[1], ""),
    "waiting": ("#c3c8ce", "/"),
}
HALF = 0.34  # height of each half of a lane
MOST = 400  # spans drawn of one kind, and a tenth of it of arrows; a chart's width can't show more


@dataclass(frozen=True)
class Timeline(Chart):
    """One lane a rank: its work above, communication and waiting below, and lines between those that communicate."""

    spans: list[dict[str, Any]]
    """As `Run.timeline()` gives them."""
    world: int
    """Number of ranks."""

    def _traces(self, layout: dict[str, Any]) -> list[dict[str, Any]]:
        layout["xaxis"] |= {"title": {"text": "milliseconds", "standoff": 6}, "rangemode": "tozero"}
        layout["yaxis"] |= {"tickvals": list(range(self.world)), "ticktext": self._names(), "showgrid": False}
        layout["yaxis"] |= {"range": [self.world - 0.5, -0.5]}
        layout |= {"barmode": "overlay", "bargap": 0}
        data = []
        for name, spans in self._groups().items():
            color, hatch = LOOKS[name]
            marker = {"color": color, "pattern": {"shape": hatch, "fgcolor": GREY, "size": 5}, "line": {"width": 0}}
            data.append(
                {
                    "type": "bar",
                    "orientation": "h",
                    "name": name,
                    "y": [span["rank"] for span in spans],
                    "base": [_ms(span["begin"]) for span in spans],
                    "x": [_ms(span["end"] - span["begin"]) for span in spans],
                    "width": HALF,
                    "offset": _top(name),
                    "marker": marker,
                    "customdata": [_words(span) for span in spans],
                    "hovertemplate": "rank %{y}: %{customdata}, %{x:.3g} ms from %{base:.4g} ms on<extra></extra>",
                }
            )
        layout["annotations"] += [_arrow(*meeting) for meeting in self._meetings()]
        return data

    def _names(self) -> list[str]:
        return [f"rank {rank}" for rank in range(self.world)]

    def _groups(self) -> dict[str, list[dict[str, Any]]]:
        """Spans by how they look; the shortest are left out where there are too many to see."""
        groups: dict[str, list[dict[str, Any]]] = {name: [] for name in LOOKS}
        for span in self.spans:
            groups[span["name"] if span["kind"] == "compute" else span["kind"]].append(span)
        return {
            name: sorted(spans, key=lambda span: span["begin"] - span["end"])[:MOST]
            for name, spans in groups.items()
            if spans
        }

    def _meetings(self) -> list[tuple[float, int, float, int, bool]]:
        """Lines to draw: time and rank at both ends, and whether data goes one way only."""
        meetings, met = [], defaultdict(list)
        counts: dict[Any, int] = defaultdict(int)
        for span in self.spans:
            if span["kind"] == "communication" and len(set(span["ranks"])) > 1:
                way = span["name"] in ("send", "recv")
                own = (span["name"], *span["ranks"], span["rank"])
                met["send" if way else span["name"], *span["ranks"], counts[own]].append(span)
                counts[own] += 1
        for (name, *_), spans in met.items():
            if len(spans) < 2:
                continue
            if name == "send":
                source, target = sorted(spans, key=lambda span: span["name"] == "recv")
                meetings.append((source["begin"], source["rank"], target["end"], target["rank"], True))
            else:
                first, last = min(spans, key=lambda s: s["rank"]), max(spans, key=lambda s: s["rank"])
                meetings.append((first["begin"], first["rank"], last["begin"], last["rank"], False))
        return sorted(meetings)[: MOST // 10]

    def _size(self) -> Ends:
        return 6.0, 1.6 + 0.55 * self.world

    def _draw(self, figure: Figure) -> None:
        from matplotlib.patches import Patch

        axes = figure.add_subplot()
        handles = []
        for name, spans in self._groups().items():
            color, hatch = LOOKS[name]
            striped = {"facecolor": color, "edgecolor": "#9aa1a9", "hatch": "////"}
            style: dict[str, Any] = striped if hatch else {"color": color}
            for rank in range(self.world):
                pieces = [(_ms(s["begin"]), _ms(s["end"] - s["begin"])) for s in spans if s["rank"] == rank]
                axes.broken_barh(pieces, (rank + _top(name), HALF), lw=0, **style)
            handles.append(Patch(label=name, lw=0, **style))
        for begin, source, end, target, way in self._meetings():
            places = (_ms(end), target + HALF / 2), (_ms(begin), source + HALF / 2)
            arrow = {"arrowstyle": "-|>" if way else "-", "color": INK, "lw": 0.7, "shrinkA": 0, "shrinkB": 0}
            axes.annotate("", *places, arrowprops={**arrow, "mutation_scale": 6})
        _name_operations(axes, self.spans)
        axes.set(ylim=(self.world - 0.5, -0.5), xlim=(0, None))
        axes.set_yticks(range(self.world), self._names())
        dress(axes, "milliseconds", "")
        axes.grid(False, axis="y")
        head(figure, self.title)
        legend(figure, 5, handles=handles)


def _ms(seconds: float) -> float:
    return round(seconds * 1e3, 4)


def _top(name: str) -> float:
    """Where a kind of span begins in its lane, from its middle."""
    return 0.0 if name in ("communication", "waiting") else -HALF


def _words(span: dict[str, Any]) -> str:
    if span["kind"] == "compute":
        return str(span["name"])
    what = f"{span['name']} of {size(span['bytes'])}"
    if span["name"] in ("send", "recv"):
        what += f", rank {span['ranks'][0]} to rank {span['ranks'][1]}"
    elif span["ranks"]:
        what += f", ranks {', '.join(map(str, span['ranks']))}"
    return f"waits for {what}" if span["kind"] == "waiting" else what


def _arrow(begin: float, source: int, end: float, target: int, way: bool) -> dict[str, Any]:
    line = {"xref": "x", "yref": "y", "axref": "x", "ayref": "y", "text": "", "arrowcolor": GREY_ANYWHERE}
    place = {"x": _ms(end), "y": target + HALF / 2, "ax": _ms(begin), "ay": source + HALF / 2}
    return {**line, **place, "arrowhead": 2 if way else 0, "arrowwidth": 1, "showarrow": True}


def _name_operations(axes: Axes, spans: list[dict[str, Any]]) -> None:
    """Write on each operation that is wide enough what it is."""
    whole = max((span["end"] for span in spans), default=0)
    for span in spans:
        width = span["end"] - span["begin"]
        if span["kind"] != "compute" and width > 0.009 * len(span["name"]) * whole:
            place = (_ms(span["begin"] + width / 2), span["rank"] + HALF / 2)
            axes.annotate(plain(span["name"]), place, ha="center", va="center", fontsize=6, color=INK)


def timeline(runs: list[Run]) -> Chart:
    """What each rank did over a few steps, and who sent what to whom, for the first of the runs."""
    run = runs[0]
    label, spans, costs = labels([run])[0], run.timeline(), run.costs()
    if not spans:
        return Nothing("Timeline", f"{label}: no steps were recorded yet; the first are the 11th to 13th.")
    steps = f"steps {costs[0]['step'] - 1} and {costs[0]['step']}"
    lines = []
    for cost in costs:
        shares = ", ".join(
            f"{name} {cost[name] / cost['seconds']:.0%}" for name in ("compute", "communication", "idle")
        )
        sent = ", ".join(f"{size(count)} to rank {other}" for other, count in cost["to"].items())
        lines.append(f"Rank {cost['rank']}: {shares}" + (f"; sends {sent} a step" if sent else ""))
    text = f"Timeline of {label}, {steps}. {'. '.join(lines)}."
    return Timeline(f"Timeline, {label}, {steps}", text, spans, len(costs))
