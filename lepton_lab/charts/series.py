"""What charts take from runs: their stories, curves of fewer points, names and figures."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from ..spec import Spec
from ..store.story import Story
from ..store.tracks import Curve
from ..tables import table
from ..values import brief

if TYPE_CHECKING:
    from ..run.handle import Run

COLUMNS = 600  # of a reduced curve: what a chart of a page's width can show
HIGHER = 8  # times the median of the runs' highest losses: one that diverged would flatten the others (as in chart.js)


def read(run: Run) -> Story:
    """What a run did; read again only when there is more of it."""
    sizes = tuple((path.name, path.stat().st_size) for path in sorted((run.folder / "events").glob("*.jsonl")))
    return _read(run, sizes)


@lru_cache(maxsize=16)
def _read(run: Run, sizes: tuple[tuple[str, int], ...]) -> Story:
    return run.store.story()


def reduce(curve: Curve, columns: int = COLUMNS) -> Curve:
    """The lowest and the highest point of each column of a chart, and both ends: looks the same, with fewer points."""
    x, y = curve
    if len(x) <= 2 * columns:
        return curve
    width = (x[-1] - x[0]) / columns
    lows: dict[int, int] = {}
    highs: dict[int, int] = {}
    for i, step in enumerate(x):
        column = int((step - x[0]) / width)
        if column not in lows or y[i] < y[lows[column]]:
            lows[column] = i
        if column not in highs or y[i] > y[highs[column]]:
            highs[column] = i
    indices = sorted({0, len(x) - 1, *lows.values(), *highs.values()})
    return Curve([x[i] for i in indices], [y[i] for i in indices])


def diverged(losses: Iterable[Iterable[float]]) -> list[int]:
    """Which of several runs, each with its losses, left the others so far below that they are not drawn to scale."""
    tops = {i: max(values) for i, values in enumerate(map(list, losses)) if values}
    usual = sorted(tops.values())[(len(tops) - 1) // 2] if tops else 0.0
    return [i for i, top in tops.items() if top > HIGHER * usual > 0]


def contestants(runs: list[Run]) -> list[str]:
    """How each run's work was split, all different: the strategy, its ranks and options, such as `ddp x 2`."""
    names = [contestant(run.spec) for run in runs]
    return [
        name if names.count(name) == 1 else f"{name} ({names[: i + 1].count(name)})" for i, name in enumerate(names)
    ]


def contestant(spec: Spec) -> str:
    """A strategy, its ranks and options in a few words."""
    name = spec.strategy + (f" x {spec.world}" if spec.world != 1 else "")
    own = spec.options_of(table("strategy")[spec.strategy]) if spec.strategy in table("strategy") else {}
    return ", ".join([name, *(f"{key}={brief(value)}" for key, value in own.items())])


class Footprint(NamedTuple):
    """What a step needs beside time; None where it was not measured."""

    memory: float | None
    """Bytes of the largest rank: its GPU memory, else its process (proportional set size), at the highest moment."""
    tensors: float | None
    """Bytes of the largest rank's tensors at the highest moment of a step."""
    sent: float | None
    """Bytes a step of the rank that sends most."""


def footprint(run: Run) -> Footprint:
    """Memory and traffic of a run."""
    peaks = [rank.peaks for rank in read(run).ranks.values() if rank.peaks]
    memory = max((peak.get("gpu_memory") or peak["memory"] for peak in peaks), default=None)
    costs = run.costs()
    tensors = max((cost["memory"]["peak"] for cost in costs), default=None)
    return Footprint(memory, tensors, max((cost["bytes"] for cost in costs), default=None))


def number(value: float) -> str:
    """A figure to four digits, as people write it."""
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.4g}"


def in_words(curve: Curve) -> str:
    """A curve with points: both its ends, and its extremes."""
    (x, y), low, high = curve, min(curve.y), max(curve.y)
    ends = f"{number(y[0])} at step {x[0]:.0f} to {number(y[-1])} at step {x[-1]:.0f}"
    return f"{ends} (lowest {number(low)}, highest {number(high)})"
