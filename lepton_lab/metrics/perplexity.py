"""Between how many tokens a model hesitates."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from .base import Metric, kind

if TYPE_CHECKING:
    from ..datasets import Data
    from ..objectives import Criterion


class Perplexity(Metric):
    """Between how many tokens, all alike, a model as unsure would choose: e to the loss, from which it follows."""

    title = "Perplexity"
    short = "ppl"
    axis = "perplexity"
    higher = False
    kinds = ("tokens",)

    @classmethod
    def of(cls, data: Data, criterion: Criterion, **options: Any) -> Perplexity | None:
        """Of tokens whose loss is the mean of a cross entropy."""
        entropy = criterion.entropy and not criterion.summed
        return cls(data, criterion) if kind(data, criterion) == "tokens" and entropy else None

    def follow(self, split: str, figures: dict[str, Any]) -> float | None:
        """The exponential of the loss."""
        try:
            return math.exp(figures["loss"])
        except OverflowError:
            return math.inf
