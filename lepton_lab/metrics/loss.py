"""What training minimises, found for each split as its sum over its weight."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ..batches import Batch
from .base import Metric

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTLESS = (
    "is NaN, since what it weighs is zero over all ranks: no target counts; give some that the loss does not leave "
    "out, or a weight above zero"
)


class Loss(Metric):
    """The loss of labels: its sum over what its targets weigh (see `objectives.Criterion`)."""

    title = "Loss"
    short = "loss"
    axis = "loss"
    higher = False
    digits = 7
    training = True
    usual = True

    def add(self, output: Any, batch: Batch) -> Tensor:
        """Sum and weight of a batch."""
        import torch

        total, weight = self.criterion.parts(output, batch)
        weight = torch.as_tensor(weight, device=total.device)
        return torch.stack([part.detach().double().reshape(()) for part in (total, weight)])

    def update(self, output: Tensor, target: Tensor) -> Tensor:
        """Sum and weight of outputs and targets."""
        return self.add(output, Batch(None, target, 1.0, len(target)))

    def finish(self, sums: Tensor) -> float:
        """The mean; NaN where nothing weighs."""
        total, weight = sums.tolist()
        weight = 1.0 if self.criterion.summed else weight
        self.doubt = "" if weight else WEIGHTLESS
        return total / weight if weight else math.nan
