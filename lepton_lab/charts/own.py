"""Charts of what a user's code logged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from ..metrics import SPLITS
from ..store.figures import VALUE
from ..store.naming import labels
from .drawing import Chart, Ends, Nothing, color, dress, head
from .lines import Line, Lines
from .series import in_words, number, read

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..run.handle import Run


def numbers(runs: Sequence[Run]) -> list[str]:
    """Names of the numbers that runs logged, in the order in which they came."""
    return list(dict.fromkeys(name for run in runs for name, _ in read(run).logged))


def logged(name: str, runs: list[Run]) -> Chart:
    """A number of `lab.log` by step, all ranks together: training thin, what was logged in evaluations strong."""
    lines, words, alone = [], [], len(runs) == 1
    for i, (run, label) in enumerate(zip(runs, labels(runs), strict=True)):
        for (own, split), track in read(run).logged.items():
            if own == name and (curve := track.curve(VALUE)).x:
                said = SPLITS.get(split, split) if alone else f"{label}, {SPLITS.get(split, split)}"
                place = list(SPLITS).index(split) if alone and split in SPLITS else i
                lines.append(Line(said, curve, place, strong=split != "train"))
                words.append(f"{said}: {in_words(curve)}")
    if not lines:
        return Nothing(name, f"{name}: no run has logged it ({', '.join(run.id for run in runs)}).")
    title = f"{name}, {labels(runs)[0]}" if alone else name
    return Lines(title, f"{name} by optimizer step. {'. '.join(words)}.", name, tuple(lines))


@dataclass(frozen=True)
class Spread(Chart):
    """A histogram."""

    x: str
    edges: Sequence[float]
    counts: Sequence[int]

    def _traces(self, layout: dict[str, Any]) -> list[dict[str, Any]]:
        layout["xaxis"] |= {"title": {"text": self.x}}
        layout["yaxis"] |= {"title": {"text": "count"}}
        layout["bargap"] = 0
        middles = [(low + high) / 2 for low, high in pairwise(self.edges)]
        return [{"type": "bar", "x": middles, "y": list(self.counts), "marker": {"color": color(0)}}]

    def _size(self) -> Ends:
        return 3.6, 2.2

    def _draw(self, figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.stairs(self.counts, self.edges, fill=True, color=color(0))
        dress(axes, self.x, "count")
        head(figure, self.title, size=9)


def spread(name: str, step: int, content: Mapping[str, Any]) -> Chart:
    """A histogram of `lab.log_histogram`, as its file holds it."""
    edges, counts = content["edges"], content["counts"]
    words = f"{sum(counts)} numbers from {number(edges[0])} to {number(edges[-1])}"
    return Spread(f"{name}, step {step}", f"Histogram of {name} at step {step}: {words}.", name, edges, counts)
