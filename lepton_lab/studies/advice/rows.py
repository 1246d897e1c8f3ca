"""Advice: rows of what strategies cost, and the table that shows them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ...section import NONE, Section, table
from ...strategies.work import Cost, shown

if TYPE_CHECKING:
    import pandas as pd

PARTS = ("parameters", "gradients", "optimizer", "activations")
FIGURES = ("memory", *PARTS, "sent", "idle")
LIMITS = {"memory": 0.20, "sent": 0.10}  # what a prediction is allowed to be off, relative to what is measured

NOTE = (
    "Bytes of tensors on the rank that bears most, at the highest moment of a step (with torch's own arithmetic on the "
    "CPU; torch.compile may need less); bytes that the rank sends that sends most, a step; idle: the share of a step "
    "that ranks wait because of how work is split. Activations are all that is neither of the others at that moment."
)


@dataclass
class Row:
    """A strategy over so many ranks: what it would cost, or why it can't be done."""

    strategy: str
    world: int
    cost: Cost | None
    """None where it is refused."""
    why: str
    """What the cost follows from, or the refusal."""
    measured: dict[str, float] = field(default_factory=dict)
    """What a run did cost, by FIGURES; empty where nothing was measured."""
    exact: bool = True
    """Whether it computes what one process computes, to rounding."""

    @property
    def predicted(self) -> dict[str, float]:
        """The cost by FIGURES; empty where it is refused."""
        if self.cost is None:
            return {}
        return {name: getattr(self.cost, name) for name in FIGURES}

    @property
    def errors(self) -> dict[str, float]:
        """By how much memory and bytes sent were predicted too high, relative to what was measured."""
        pairs = [(name, self.predicted[name], self.measured[name]) for name in LIMITS if name in self.measured]
        return {name: (predicted - real) / real if real else float(predicted > 0) for name, predicted, real in pairs}

    @property
    def remark(self) -> str:
        """What of the prediction is off by more than its limit; "" if nothing is, or nothing was measured."""
        off = {name: error for name, error in self.errors.items() if abs(error) > LIMITS[name]}
        return ", ".join(f"{name} is off by {error:+.0%}" for name, error in off.items())


class Advice:
    """
    Strategies side by side; last in a cell it shows its table.

    Attributes
    ----------
    rows : list of Row
        One for each strategy and world; with one rank all are as `single`.
    """

    def __init__(self, rows: list[Row]) -> None:
        self.rows = rows

    def __repr__(self) -> str:
        return self._section().text

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return self._section()._repr_mimebundle_()

    def records(self) -> list[dict[str, Any]]:
        """
        The rows as plain values, None where there is none.

        Each has strategy, world, fits (false if it is refused); memory, parameters, gradients, optimizer, activations
        (bytes), sent (bytes a step), idle (0 to 1); why; and, of a run's own, measured_ and error_ of these, remark.
        """
        return [
            {
                "strategy": row.strategy,
                "world": row.world,
                "fits": row.cost is not None,
                **{name: row.predicted.get(name) for name in FIGURES},
                "why": row.why,
                **{f"measured_{name}": row.measured.get(name) for name in FIGURES},
                **{f"error_{name}": row.errors.get(name) for name in LIMITS},
                "remark": row.remark,
            }
            for row in self.rows
        ]

    def table(self) -> pd.DataFrame:
        """The records as a pandas table."""
        import pandas as pd

        return pd.DataFrame(self.records())

    def cells(self) -> tuple[list[str], list[list[str]]]:
        """Heads and lines of the table as people read it."""
        lines = []
        for row in self.rows:
            lines.append([row.strategy, str(row.world), *in_cells(row.predicted), row.why])
            if row.measured:
                lines.append(["measured", "", *in_cells(row.measured), row.remark or "as predicted"])
        return ["strategy", "world", "memory", *PARTS, "sent a step", "idle", "why, or why not"], lines

    def _section(self) -> Section:
        return table("What a step would cost", *self.cells(), NOTE, numeric=True)


def in_cells(figures: dict[str, float]) -> list[str]:
    """FIGURES as people read them."""
    if not figures:
        return [NONE] * len(FIGURES)
    return [f"{figures[name]:.0%}" if name == "idle" else shown(figures[name]) for name in FIGURES]
