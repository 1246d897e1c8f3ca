"""Which state is the best so far by a figure, and whether a run ends since one no longer improves."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from .. import watched
from ..metrics import Metric
from ..spec import Spec
from ..strategies.base import Single

if TYPE_CHECKING:
    from .position import Progress


class Judge:
    """
    What a spec says of figures, asked at the end of each epoch; it decides alike on every rank.

    What it remembers is part of a run's progress, which checkpoints hold.

    Parameters
    ----------
    metrics
        Those of the run, by name.
    splits
        Those that have samples.

    Raises
    ------
    SpecError
        If a figure is none of the run's.
    """

    def __init__(self, spec: Spec, metrics: Mapping[str, Metric], splits: Collection[str], strategy: Single) -> None:
        self.strategy = strategy
        self.keep, self.early = spec.keep_best, spec.stop_early
        self.curves = {name: metric for name, metric in metrics.items() if metric.curve}
        watched.check(spec, list(self.curves), splits)

    def better(self, now: Progress, figures: Mapping[str, Any]) -> bool:
        """Take an epoch's figures by key, those that it has; returns whether the state is the best so far."""
        if (metric := self.early.get("metric")) and (figure := self._figure("stop_early", metric, figures)) is not None:
            if self._improves(metric, figure, now.reached, self.early["min_delta"]):
                now.reached, now.waited = figure, 0
            else:
                now.waited += 1
        figure = self._figure("keep_best", self.keep, figures) if self.keep else None
        if figure is None or not self._improves(self.keep, figure, now.best):
            return False
        now.best, now.best_step = figure, now.step
        return True

    def over(self, now: Progress) -> str:
        """Why the run ends, as a sentence; "" where it goes on."""
        if not self.early or now.waited < self.early["patience"]:
            return ""
        key, count = self.early["metric"], self.early["patience"]
        best = "it never was a number" if now.reached is None else f"the best was {now.reached:.4g}"
        return f"stop_early: {key} did not improve in {count} evaluation{'s' * (count > 1)}; {best}"

    def _figure(self, field: str, key: str, figures: Mapping[str, Any]) -> float | None:
        """A figure that all ranks agree on; None where its split was not evaluated."""
        split, _ = watched.divided(key)
        if f"{split}_samples" not in figures:
            return None
        if key not in figures:
            raise watched.unknown(field, key, [name for name in self.curves if f"{split}_{name}" in figures])
        figure = figures[key]
        return self.strategy.agreed(math.nan if figure is None else float(figure))

    def _improves(self, key: str, figure: float, best: float | None, delta: float = 0.0) -> bool:
        """Whether a figure is better than the best so far; what is no number never is."""
        if not math.isfinite(figure):
            return False
        gain = figure - (best or 0.0)
        return best is None or (gain if self.curves[watched.divided(key)[1]].higher else -gain) > delta
