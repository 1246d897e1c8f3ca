"""Who holds what: a picture of a strategy before it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import SpecError
from ..strategies import STRATEGIES
from ..strategies.base import Single
from .drawing import COLORS, GREY, Chart, Ends, head

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..spec import Spec

EMPTY = "#e4e7eb"
PLACES = {"batch": COLORS[4], "parameters": COLORS[0], "gradients": COLORS[2], "optimizer": COLORS[3]}
GAP = 0.06  # between ranks, in widths of a bar


@dataclass(frozen=True)
class Placement(Chart):
    """One bar for each rank and thing, filled where the rank holds it."""

    held: list[dict[str, Ends]]
    """For each rank, by name of PLACES, the beginning and end of what it holds (0 to 1)."""

    def _traces(self, layout: dict[str, Any]) -> list[dict[str, Any]]:
        layout |= {"showlegend": False, "barmode": "overlay", "bargap": 0.25}
        layout["xaxis"] |= {"range": [-GAP, len(self.held)], "tickvals": self._middles(), "showgrid": False}
        layout["xaxis"]["ticktext"] = self._names()
        layout["yaxis"] |= {"type": "category", "autorange": "reversed", "showgrid": False}
        names, lefts, widths, colors = zip(*self._bars(), strict=True)
        marker = {"color": colors, "line": {"width": 0}}
        bars = {"type": "bar", "orientation": "h", "y": names, "base": lefts, "x": widths, "marker": marker}
        return [bars | {"hoverinfo": "skip"}]

    def _bars(self) -> list[tuple[str, float, float, str]]:
        """Row, left end, width and colour of each bar, empty ones first."""
        wide = 1 - GAP
        empty = [(name, float(rank), wide, EMPTY) for rank in range(len(self.held)) for name in PLACES]
        full = [
            (name, rank + wide * begin, wide * (end - begin), PLACES[name])
            for rank, held in enumerate(self.held)
            for name, (begin, end) in held.items()
            if end > begin
        ]
        return empty + full

    def _names(self) -> list[str]:
        return [f"rank {rank}" for rank in range(len(self.held))]

    def _middles(self) -> list[float]:
        return [rank + (1 - GAP) / 2 for rank in range(len(self.held))]

    def _size(self) -> Ends:
        return 6.0, 1.9

    def _draw(self, figure: Figure) -> None:
        axes = figure.add_subplot()
        rows = list(PLACES)
        for name, left, width, color in self._bars():
            axes.barh(rows.index(name), width, left=left, color=color, height=0.72)
        axes.set(ylim=(len(rows) - 0.5, -0.5), xlim=(-GAP, len(self.held)))
        axes.set_yticks(range(len(rows)), rows)
        axes.set_xticks(self._middles(), self._names())
        axes.tick_params(length=0, colors=GREY, labelsize=9)
        for spine in axes.spines.values():
            spine.set_visible(False)
        head(figure, self.title)


def placement(spec: Spec) -> Chart:
    """
    Who holds what under the strategy of a spec: the batch, parameters, gradients and optimizer state.

    Raises
    ------
    SpecError
        If the strategy is none of the table's.
    """
    if spec.strategy not in STRATEGIES:
        raise SpecError(f"strategy={spec.strategy!r}: what ranks hold is known of {', '.join(STRATEGIES)} only")
    strategy = STRATEGIES[spec.strategy] if spec.world > 1 else Single  # with one rank each is plain training
    held = [strategy(spec, **spec.options_of(strategy)).holds(rank, spec.world) for rank in range(spec.world)]
    words = [
        f"rank {rank}: " + ", ".join(f"{name} {end - begin:.0%}" for name, (begin, end) in places.items())
        for rank, places in enumerate(held)
    ]
    text = f"What each rank holds under {spec.strategy}. {'; '.join(words)}."
    return Placement(f"{spec.strategy}: what each rank holds", text, held)
