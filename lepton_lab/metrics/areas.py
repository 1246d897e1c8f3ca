"""
Areas under curves over all thresholds, which need every score: they are gathered.

Legend of the shape comments: B samples, K classes, L labels, R answers.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from .base import Metric
from .scores import counting, of_classes, of_labels

if TYPE_CHECKING:
    from torch import Tensor


class Area(Metric):
    """
    An area under a curve of yes against no.

    Of two classes: whether the second is the right one. Of more: each against the rest, by its probability, and of
    several labels each: the mean over those that have both a yes and a no.
    """

    form = ".4f"
    highest = 1.0
    gathers = True
    kinds = ("classes", "labels")

    def update(self, output: Any, target: Any) -> Tensor | None:
        """Scores and labels side by side: (B, K + 1), or (B, R, K + 1) where a sample has several; (B, 2 L)."""
        import torch

        if (answers := of_classes(output, target, self.criterion)) is not None:
            scores, labels = answers
            self._classes = scores.shape[-1]
            rows = torch.cat([scores, labels[..., None].to(scores.dtype)], -1)
            return rows if rows.dim() == 2 else rows.flatten(1, -2)
        if (answers := of_labels(output, target)) is not None:
            self._classes = 0
            return torch.cat([answers[0], answers[1].to(answers[0].dtype)], -1)
        return None

    def finish(self, sums: Tensor) -> float:
        """The area, or the mean of several; NaN where none is known."""
        scores, positive = self._split(sums.double())
        areas = [
            self.area(of, is_it) for of, is_it in zip(scores.T, positive.T, strict=True) if 0 < is_it.sum() < len(is_it)
        ]
        return sum(areas) / len(areas) if areas else math.nan

    def _split(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Scores of yes (R, L), and whether it is (R, L)."""
        import torch

        if not self._classes:
            half = rows.shape[1] // 2
            return rows[:, :half], rows[:, half:] > 0.5
        labels = rows[:, -1].long()
        counts = counting(labels, self._classes, self.criterion)
        scores, labels = rows[counts, :-1], labels[counts]
        if self._classes == 2:
            return (scores[:, 1] - scores[:, 0])[:, None], (labels == 1)[:, None]
        return scores.log_softmax(1), labels[:, None] == torch.arange(self._classes)

    def area(self, scores: Tensor, positive: Tensor) -> float:
        """The area of scores (R,) and whether each is positive (R,), some of which are and some not."""
        raise NotImplementedError


class RocAuc(Area):
    """The area under the ROC curve: how often a positive has a higher score than a negative (a tie counts half)."""

    telling = ("labels",)
    title = "ROC AUC"
    short = "auc"
    axis = "area under the ROC curve"

    def area(self, scores: Tensor, positive: Tensor) -> float:
        """By the positives' ranks (Mann and Whitney, Annals of Mathematical Statistics 1947)."""
        import torch

        _, place, ties = torch.unique(scores, return_inverse=True, return_counts=True)
        rank = ties.cumsum(0).double() - (ties - 1) / 2  # the mean one of those that are tied
        n, m = int(positive.sum()), int((~positive).sum())
        return (float(rank[place][positive].sum()) - n * (n + 1) / 2) / (n * m)


class AveragePrecision(Area):
    """The precision at each threshold, weighted by what recall it adds: the area under their curve, in steps."""

    title = "Average precision"
    short = "ap"
    axis = "average precision"

    def area(self, scores: Tensor, positive: Tensor) -> float:
        """As scikit-learn's: the sum of (R_n - R_(n-1)) P_n."""
        import torch

        _, place, ties = torch.unique(-scores, return_inverse=True, return_counts=True)
        hits = torch.zeros(len(ties), dtype=torch.double).index_add_(0, place, positive.double())
        return float((hits * hits.cumsum(0) / ties.cumsum(0)).sum() / hits.sum())
