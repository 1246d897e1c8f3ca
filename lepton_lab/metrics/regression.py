"""
How far numbers are from those that were to be.

Legend of the shape comments: B samples, D numbers of each.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from .base import Metric
from .classes import ratio
from .scores import of_labels

if TYPE_CHECKING:
    from torch import Tensor

CONSTANT = 1e-13  # fraction of the mean square below which a variance is nothing but rounding


class Distance(Metric):
    """The mean of a distance over all numbers."""

    higher = False
    kinds = ("numbers", "noise")

    def update(self, output: Any, target: Any) -> Tensor | None:
        """The sum of distances, and how many there are."""
        import torch

        if (pairs := numbers(output, target)) is None:
            return None
        apart = self.distance(pairs[0] - pairs[1])
        return torch.stack([apart.sum(), apart.new_tensor(apart.numel())])

    def finish(self, sums: Tensor) -> float:
        """The mean."""
        return ratio(*sums.tolist())

    def distance(self, error: Tensor) -> Tensor:
        """Of each error, (B, D)."""
        raise NotImplementedError


class MSE(Distance):
    """The mean squared error."""

    title = "MSE"
    short = "mse"
    axis = "mean squared error"

    def distance(self, error: Tensor) -> Tensor:
        """Its square."""
        return error.square()


class RMSE(MSE):
    """The root of the mean squared error, in the unit of the targets."""

    title = "RMSE"
    short = "rmse"
    axis = "root of the mean squared error"

    def finish(self, sums: Tensor) -> float:
        """The root of the mean."""
        return math.sqrt(super().finish(sums))


class MAE(Distance):
    """The mean absolute error, in the unit of the targets."""

    title = "MAE"
    short = "mae"
    axis = "mean absolute error"

    def distance(self, error: Tensor) -> Tensor:
        """Its size."""
        return error.abs()


class R2(Metric):
    """The fraction of the targets' variance that is explained: 1 is all, 0 what their mean would do; below is worse."""

    telling = ("numbers", "noise")
    title = "R2"
    short = "r2"
    axis = "variance explained (fraction)"
    form = ".4f"
    highest = 1.0
    kinds = ("numbers", "noise")

    def update(self, output: Any, target: Any) -> Tensor | None:
        """Of each number its sum, its squares' and its errors' squares', and how many samples: (3 D + 1,)."""
        import torch

        if (pairs := numbers(output, target)) is None:
            return None
        predicted, targets = pairs
        errors, count = (predicted - targets).square().sum(0), targets.new_tensor([len(targets)])
        return torch.cat([targets.sum(0), targets.square().sum(0), errors, count])

    def finish(self, sums: Tensor) -> float:
        """The mean over numbers, as scikit-learn's; of one that never changes, whether it is met."""
        if not sums[-1]:
            return math.nan
        total, squares, errors = sums[:-1].view(3, -1)
        variance = squares - total.square() / sums[-1]
        constant = variance <= CONSTANT * squares
        explained = 1 - errors / variance.where(~constant, 1)
        return float(explained.where(~constant, (errors == 0).double()).mean())


def numbers(output: Any, target: Any) -> tuple[Tensor, Tensor] | None:
    """Outputs and targets as numbers (B, D) in float64; None where they can't be compared one by one."""
    pairs = of_labels(output, target)
    return None if pairs is None else (pairs[0].double(), pairs[1].double())
