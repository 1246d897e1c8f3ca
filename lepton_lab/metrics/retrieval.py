"""
How high the right items stand in a list.

Outputs are scores (B, K) of candidates; targets are the number of the right one (B,), or how relevant each is (B, K).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from .base import Metric
from .classes import ratio
from .scores import doubted

if TYPE_CHECKING:
    from torch import Tensor

    from ..datasets import Data
    from ..objectives import Criterion


class Retrieval(Metric):
    """
    A figure of the first k of each list, and its mean.

    Parameters
    ----------
    k
        How many scores are looked at.
    """

    form = ".4f"
    highest = 1.0
    kinds = ("classes", "labels")

    def __init__(self, data: Data, criterion: Criterion, *, k: Annotated[int, Field(ge=1)] = 5) -> None:
        super().__init__(data, criterion)
        self._k = k

    def update(self, output: Any, target: Any) -> Tensor | None:
        """The sum over lists, and how many there are."""
        import torch

        if not (hasattr(output, "topk") and hasattr(target, "dim")) or output.dim() != 2 or len(output) != len(target):
            return None
        k = min(self._k, output.shape[1])
        self.doubt = doubted(self._k, output.shape[1])
        if target.dim() == 1 and not target.is_floating_point():
            right = output.gather(1, target[:, None])
            # Behind those that are equal: a model that tells none apart is no good.
            place = (output >= right).sum(1) - 1
            gains = (place[:, None] == torch.arange(k, device=place.device)).double()
            best = torch.zeros_like(gains)
            best[:, 0] = 1
        elif target.shape == output.shape:
            gains = target.gather(1, output.topk(k, 1).indices).double()
            best = target.topk(k, 1).values.double()
        else:
            return None
        figures = self.figure(gains, best)
        return torch.stack([figures.sum(), figures.new_tensor(len(figures))])

    def finish(self, sums: Tensor) -> float:
        """The mean."""
        return ratio(*sums.tolist())

    def figure(self, gains: Tensor, best: Tensor) -> Tensor:
        """Of each list, (B,): of how relevant the first k are, (B, k), and the first k of the best order."""
        raise NotImplementedError


class HitRate(Retrieval):
    """The fraction of lists with a right one among the first k (HR@k)."""

    title = "Hit rate at k"
    short = "HR@k"
    axis = "hit rate at k (fraction)"

    def figure(self, gains: Tensor, best: Tensor) -> Tensor:
        """Whether any is."""
        return (gains > 0).any(1).double()


class Ndcg(Retrieval):
    """Discounted cumulative gain of the first k to that of the best order: Jaervelin and Kekaelaeinen, TOIS 2002."""

    title = "NDCG at k"
    short = "NDCG@k"
    axis = "NDCG at k"

    def figure(self, gains: Tensor, best: Tensor) -> Tensor:
        """The sum of gains over log2(1 + place); 0 of a list with none that is relevant."""
        import torch

        discount = 1 / (torch.arange(gains.shape[1], device=gains.device) + 2.0).double().log2()
        ideal = (best * discount).sum(1)
        return ((gains * discount).sum(1) / ideal.where(ideal > 0, 1)).where(ideal > 0, 0)
