"""What the steps of an epoch add up to: its figures of training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Tally:
    """
    Adds up steps, in a list of sums that a checkpoint can hold.

    The list has each figure x samples, in the order of `names`, then the samples; then, of each figure that not every
    step has, the samples of the steps that had it. NaN is the sum of what has no meaning.
    """

    names: Sequence[str]
    """The loss, then what is counted beside it; the last of them are the players' losses."""
    players: int = 0
    """How many of the last are not of every step."""

    def empty(self) -> list[float]:
        """The sums of no step."""
        return [0.0] * (len(self.names) + 1 + self.players)

    def add(self, sums: list[float], loss: float, counts: Sequence[float], samples: int) -> None:
        """Add a step: the mean `loss` of `samples`, and what was counted of them, if anything was."""
        count = len(self.names)
        if math.isfinite(loss):
            sums[0] += loss * samples
        for i in range(1, count):
            value = counts[i - 1] if counts else math.nan
            place = i - count + self.players  # among the players
            if place < 0:
                sums[i] += value
            elif not math.isnan(value):
                sums[i] += value
                sums[count + 1 + place] += samples
        sums[count] += samples

    def figures(self, totals: list[float]) -> tuple[dict[str, float], int]:
        """Means over samples, by name, and how many samples there were."""
        count = len(self.names)
        n = totals[count]
        weights = [n] * (count - self.players) + totals[count + 1 :]
        sums = zip(self.names, totals[:count], weights, strict=True)
        figures = {name: value / weight for name, value, weight in sums if weight and not math.isnan(value)}
        own = [figures[name] for name in self.names[count - self.players :] if name in figures]
        if own:  # of all players, as in an evaluation
            figures[self.names[0]] = sum(own)
        return figures, int(n)
