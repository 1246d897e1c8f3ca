"""How often each class is in each split: one group of bars a class."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .drawing import Chart, Ends, color, dress, head, legend, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 30  # classes that are drawn, the most frequent ones
GROUP = 0.8  # of the room of a class that its bars take
Y = "fraction of the split"


@dataclass(frozen=True)
class Shares(Chart):
    """Fractions by class and split."""

    classes: list[str]
    shares: dict[str, list[float]]
    """Split -> fraction of each class."""

    def _traces(self, layout: dict[str, Any]) -> list[dict[str, Any]]:
        layout["xaxis"] |= {"type": "category", "title": {"text": "class", "standoff": 6}}
        layout["yaxis"] |= {"title": {"text": Y}, "tickformat": ".0%"}
        layout["barmode"] = "group"
        names = [html.escape(name) for name in self.classes]
        return [
            {"type": "bar", "name": split, "x": names, "y": values, "marker": {"color": color(i)}}
            for i, (split, values) in enumerate(self.shares.items())
        ]

    def _size(self) -> Ends:
        return 6.4, 2.7

    def _draw(self, figure: Figure) -> None:
        axes, count = figure.add_subplot(), len(self.shares)
        for i, (split, values) in enumerate(self.shares.items()):
            wide = GROUP / count
            places = [at - GROUP / 2 + (i + 0.5) * wide for at in range(len(values))]
            axes.bar(places, values, wide * 0.92, color=color(i), label=split)
        long = sum(map(len, self.classes)) > 60
        axes.set_xticks(range(len(self.classes)), [plain(name) for name in self.classes], rotation=45 if long else 0)
        axes.yaxis.set_major_formatter("{x:.0%}")
        dress(axes, "class", Y)
        axes.grid(False, axis="x")
        head(figure, self.title)
        legend(figure, count)


def shares(title: str, text: str, counts: dict[str, list[int]], classes: list[str]) -> Shares:
    """Of counts by split and class, of which the most frequent classes are drawn."""
    whole = [sum(of) for of in zip(*counts.values(), strict=True)]
    shown = sorted(sorted(range(len(classes)), key=lambda i: -whole[i])[:MOST])
    fractions = {split: [of[i] / max(1, sum(of)) for i in shown] for split, of in counts.items()}
    return Shares(title, text, [classes[i] for i in shown], fractions)
