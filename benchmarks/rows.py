"""A row of a table: our figures, the peer's beside them, and the target."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

HEADER = ("what", "ours", "peer", "ours / peer", "target", "met?")


@dataclass
class Row:
    """
    One comparison, or one figure of ours alone.

    The target, if there is one, is held against the median: of the ratio where there is a peer, else of our figure.
    Over a few seeds it is the mean: `middle=mean`.
    """

    what: str
    ours: Sequence[float]
    """One value a repeat."""
    unit: str
    peer: Sequence[float] = ()
    """Values of the same repeats, in the same unit."""
    at_least: float | None = None
    at_most: float | None = None
    middle: Callable[[Sequence[float]], float] = median
    ratios: list[float] = field(init=False)

    def __post_init__(self) -> None:
        self.ratios = [ours / peer for ours, peer in zip(self.ours, self.peer, strict=True)] if self.peer else []

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None where there is none."""
        value = self.middle(self.ratios or self.ours)
        if self.at_least is not None:
            return value >= self.at_least
        return None if self.at_most is None else value <= self.at_most

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON takes it, and whether the target is met."""
        return {**asdict(self), "middle": self.middle.__name__, "met": self.met}

    def cells(self) -> tuple[str, ...]:
        """The row under HEADER."""
        target = ""
        if (bound := self.at_most if self.at_least is None else self.at_least) is not None:
            target = (
                f"{'<=' if self.at_least is None else '>='} {number(bound)}{'' if self.ratios else ' ' + self.unit}"
            )
        return (
            self.what,
            f"{spread(self.ours, self.middle)} {self.unit}",
            f"{spread(self.peer, self.middle)} {self.unit}" if self.peer else "",
            spread(self.ratios, self.middle) if self.ratios else "",
            target,
            {None: "", True: "yes", False: "NO"}[self.met],
        )


def spread(values: Sequence[float], middle: Callable[[Sequence[float]], float] = median) -> str:
    """The median, or another middle, and from least to most: "3.1 (2.9 to 3.4)"."""
    if len(values) == 1:
        return number(values[0])
    return f"{number(middle(values))} ({number(min(values))} to {number(max(values))})"


def number(value: float) -> str:
    """Three digits that mean something."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def markdown(rows: Sequence[Row]) -> str:
    """The rows as a table that reads well as plain text too."""
    table = [HEADER, *(row.cells() for row in rows)]
    widths = [max(len(line[i]) for line in table) for i in range(len(HEADER))]
    padded = ([cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in table)
    lines = [f"| {' | '.join(cells)} |" for cells in padded]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)
