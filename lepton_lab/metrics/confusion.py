"""Which classes are taken for which."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from .base import Metric

if TYPE_CHECKING:
    from torch import Tensor

    from ..datasets import Data
    from ..objectives import Criterion

CLASSES = 200  # up to which a matrix is of use


class Confusion(Metric):
    """How many samples of each class (rows) were taken for each (columns), where a sample has one label."""

    title = "Confusion"
    short = "confusion"
    axis = "samples"
    form = "d"
    splits = ("test",)
    curve = False
    usual = True

    @classmethod
    def of(cls, data: Data, criterion: Criterion, **options: Any) -> Confusion | None:
        """Of few enough classes, and no places among candidates."""
        return None if criterion.places or len(data.classes) > CLASSES else cls(data, criterion)

    def update(self, output: Tensor, target: Tensor) -> Tensor | None:
        """Pairs (true, predicted) of a batch, counted: (K * K,), of as many classes as the model tells apart."""
        import torch

        if not hasattr(target, "dim") or target.dim() != 1 or self.criterion.hits(output, target) is None:
            return None
        k = output.shape[1]
        labelled = (target >= 0) & (target < k)  # what is ignored is none of them
        pairs = (target.long() * k + output.argmax(1)).where(labelled, k * k)
        counts = torch.zeros(k * k + 1, dtype=torch.float64, device=target.device)
        # No bincount, for whose size the host would wait.
        return counts.index_add_(0, pairs, counts.new_ones(len(pairs)))[:-1]

    def finish(self, sums: Tensor) -> list[list[int]]:
        """The counts (K, K)."""
        k = math.isqrt(len(sums))
        return sums.long().view(k, k).tolist()
