"""Advice for worlds that are not at hand: what a step would take over a network, as a table and a chart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...charts import Chart
from ...charts.drawing import Nothing
from ...charts.lines import Line, Lines
from ...section import NONE, Section, table
from ...store.tracks import Curve
from ...strategies.work import shown
from .rows import Advice, Row
from .worlds import LIFE, OVERLAP, RESTART, SPREAD, Forecast, Network, forecast

if TYPE_CHECKING:
    from .fitting import Fit

TIMES = ("compute", "bubble", "network", "stragglers")
TITLE = "What a step would take"
AXIS = "samples/s of a rank / of one alone"


class Outlook(Advice):
    """
    Strategies over worlds of any size, side by side; last in a cell it shows its table.

    Attributes
    ----------
    rows : list of Row
        One for each strategy and world.
    samples : int
        Of a rank, a step: `batch_size` of the spec.
    network : Network
        The link of each rank.
    fit : Fit
        How long computing takes, as it was measured.
    """

    def __init__(self, rows: list[Row], samples: int, network: Network, fit: Fit) -> None:
        super().__init__(rows)
        self.samples, self.network, self.fit = samples, network, fit

    def forecast(self, row: Row) -> Forecast | None:
        """Where the time of a row's step goes; None where it is refused."""
        if row.cost is None:
            return None
        return forecast(row.cost, row.world, self.fit.compute(self.samples), self.network)

    def records(self) -> list[dict[str, Any]]:
        """
        The rows as plain values, None where there is none.

        Beside those of any advice each has compute, bubble, network, stragglers and their sum, seconds (of a step);
        lost (to checkpoints and failures, a fraction of that), samples_per_s (over all ranks) and efficiency (0 to 1).
        """
        return [{**record, **self._times(row)} for record, row in zip(super().records(), self.rows, strict=True)]

    def _times(self, row: Row) -> dict[str, float | None]:
        ahead = self.forecast(row)
        times = {name: getattr(ahead, name, None) for name in (*TIMES, "seconds", "lost", "efficiency")}
        speed = row.world * self.samples * ahead.efficiency / ahead.compute if ahead else None
        return {**times, "samples_per_s": speed}

    def best(self, exact: bool = True) -> dict[int, Row]:
        """
        For each world the fastest of its rows, to a percent; `exact`: of those that compute what one process computes.

        Of several as fast it is the first.
        """
        fastest: dict[int, tuple[float, Row]] = {}
        for row in sorted(self.rows, key=lambda row: row.world):
            ahead = self.forecast(row)
            if ahead is None or (exact and not row.exact):
                continue
            speed = round(ahead.efficiency, 2)
            if row.world not in fastest or speed > fastest[row.world][0]:
                fastest[row.world] = speed, row
        return {world: row for world, (_, row) in fastest.items()}

    def cells(self) -> tuple[list[str], list[list[str]]]:
        """Heads and lines of the table as people read it."""
        heads = ["strategy", "world", "memory", "sent a step", *TIMES, "step", "lost", "efficiency", "why, or why not"]
        return heads, [[row.strategy, f"{row.world:,}", *self._figures(row), row.why] for row in self.rows]

    def _figures(self, row: Row) -> list[str]:
        ahead = self.forecast(row)
        if row.cost is None or ahead is None:
            return [NONE] * (len(TIMES) + 5)
        times = [in_time(getattr(ahead, name)) for name in (*TIMES, "seconds")]
        return [shown(row.cost.memory), shown(row.cost.sent), *times, f"{ahead.lost:.1%}", f"{ahead.efficiency:.0%}"]

    def _section(self) -> Section:
        return table(TITLE, *self.cells(), self.note, numeric=True)

    @property
    def note(self) -> str:
        """Which is fastest at each size, and all that is assumed."""
        every, exact = self.best(exact=False), self.best()
        fastest = [f"world {world:,} {row.strategy}{_beside(exact.get(world), row)}" for world, row in every.items()]
        link = f"{self.network.bandwidth * 8 / 1e9:g} Gb/s and {in_time(self.network.latency)} a message"
        return (
            f"Fastest, to a percent: {'; '.join(fastest) or 'none of them can be done'}. "
            f"Each rank computes {self.samples} samples a step, so that the batch grows with the world. "
            f"An estimate, with links of {link}, where up to "
            f"{OVERLAP:.0%} of computing hides sending under strategies that do both at once; ranks that differ by "
            f"{SPREAD:.0%} from step to step; a failure of each rank in {LIFE / 3600:,.0f} hours, from which it takes "
            f"{RESTART:.0f} s to go on, and checkpoints over the same link. Fitted on steps measured on this machine "
            f"(in brackets what the fit is off): {self.fit.remark}."
        )

    def chart(self) -> Chart:
        """Efficiency by number of ranks, a line for each strategy."""
        title = f"Efficiency of each rank, {self.network.bandwidth * 8 / 1e9:g} Gb links (estimate)"
        lines: list[Line] = []
        words = []
        for name in dict.fromkeys(row.strategy for row in self.rows):
            if curve := self._curve(name):
                lines.append(Line(name, curve, len(lines)))
                ends = (f"{curve.y[end]:.0%} at {curve.x[end]:,.0f}" for end in (0, -1))
                words.append(f"{name}: {' to '.join(ends)} ranks")
        text = f"{title}. {'. '.join(words) or 'None of them can be done'}."
        if not lines:
            return Nothing(title, text)
        return Lines(title, text, AXIS, tuple(lines), x="ranks", lowest=0.0, highest=1.0, wide=True)

    def _curve(self, strategy: str) -> Curve | None:
        """Efficiency by world of a strategy; None where it is refused everywhere."""
        rows = sorted((row for row in self.rows if row.strategy == strategy), key=lambda row: row.world)
        ahead = [(float(row.world), step.efficiency) for row in rows if (step := self.forecast(row))]
        return Curve([world for world, _ in ahead], [efficiency for _, efficiency in ahead]) if ahead else None


def _beside(exact: Row | None, fastest: Row) -> str:
    if exact is fastest:
        return ""
    return f" (of those that compute what one process does: {exact.strategy if exact else 'none'})"


def in_time(seconds: float) -> str:
    """Seconds as people say them: "4.3 ms"."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} µs"
