"""
How often classes, or labels of yes and no, are told rightly: what follows from counts.

Legend of the shape comments: B samples, K classes or labels, ... places of a sample.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from .base import Metric
from .scores import counting, doubted, of_classes, of_labels

if TYPE_CHECKING:
    from torch import Tensor

    from ..datasets import Data
    from ..objectives import Criterion


class Fraction(Metric):
    """A fraction of answers, from 0 to 1."""

    form = ".2%"
    highest = 1.0
    kinds: tuple[str, ...] = ("classes", "tokens")


class TopK(Fraction):
    """
    The fraction of answers whose class is among the k of the highest scores.

    Parameters
    ----------
    k
        How many scores are looked at.
    """

    title = "Top-k accuracy"
    short = "top-k"
    axis = "top-k accuracy (fraction)"

    def __init__(self, data: Data, criterion: Criterion, *, k: Annotated[int, Field(ge=1)] = 5) -> None:
        super().__init__(data, criterion)
        self._k = k

    def update(self, output: Any, target: Any) -> Tensor | None:
        """Hits, and answers that count."""
        import torch

        if (answers := of_classes(output, target, self.criterion)) is None:
            return None
        scores, labels = answers
        self.doubt = doubted(self._k, scores.shape[-1])
        best = scores.topk(min(self._k, scores.shape[-1]), -1).indices
        counts = counting(labels, scores.shape[-1], self.criterion)
        hits = (best == labels[..., None]).any(-1) & counts
        return torch.stack([hits.sum().double(), counts.sum().double()])

    def finish(self, sums: Tensor) -> float:
        """Hits to answers."""
        return ratio(*sums.tolist())


class Counts(Fraction):
    """What follows from how often each class was said, was right, and was both."""

    kinds: tuple[str, ...] = ("classes", "tokens", "labels")

    def update(self, output: Any, target: Any) -> Tensor | None:
        """Of each class how often it was both, said, and right: (3 K,); of labels the answer is yes above a half."""
        if (answers := of_classes(output, target, self.criterion)) is not None:
            self._every = False
            return self._of_classes(*answers)
        if (pairs := of_labels(output, target)) is not None:
            self._every = True
            predicted, actual = pairs[0] > 0, pairs[1] > 0.5
            return _stacked((predicted & actual).sum(0), predicted.sum(0), actual.sum(0))
        return None

    def _of_classes(self, scores: Tensor, labels: Tensor) -> Tensor:
        predicted, k = scores.argmax(-1).flatten(), scores.shape[-1]
        counts = counting(labels, k, self.criterion).flatten()
        labels = labels.flatten().where(counts, 0)
        none = scores.new_zeros(k)  # no bincount, for whose size the host would wait
        both = none.index_add(0, labels, (counts & (predicted == labels)).to(none.dtype))
        return _stacked(
            both, none.index_add(0, predicted, counts.to(none.dtype)), none.index_add(0, labels, counts.to(none.dtype))
        )

    def finish(self, sums: Tensor) -> float:
        """The figure, of what was counted of each class; NaN where nothing was."""
        both, predicted, actual = sums.view(3, -1)
        if not self._every:  # classes that nobody named say nothing, as in scikit-learn
            there = predicted + actual > 0
            both, predicted, actual = both[there], predicted[there], actual[there]
        return self.figure(both, predicted, actual) if len(both) else math.nan

    def figure(self, both: Tensor, predicted: Tensor, actual: Tensor) -> float:
        """The figure, of counts (K,)."""
        raise NotImplementedError


class BalancedAccuracy(Counts):
    """The fraction of right answers of each class that there is, and of these the mean: rare classes weigh as much."""

    title = "Balanced accuracy"
    short = "balanced"
    axis = "balanced accuracy (fraction)"
    kinds = ("classes", "tokens")

    def figure(self, both: Tensor, predicted: Tensor, actual: Tensor) -> float:
        """The mean recall of classes that there are."""
        there = actual > 0
        return float((both[there] / actual[there]).mean())


class Averaged(Counts):
    """
    A figure of each class, and their mean.

    Parameters
    ----------
    average
        "macro": the mean over classes; "micro": of the counts of all classes together.
    """

    def __init__(self, data: Data, criterion: Criterion, *, average: Literal["macro", "micro"] = "macro") -> None:
        super().__init__(data, criterion)
        self._micro = average == "micro"

    def figure(self, both: Tensor, predicted: Tensor, actual: Tensor) -> float:
        """By the average that was asked for; a class of which the figure has no meaning counts 0."""
        if self._micro:
            both, predicted, actual = (part.sum(0, keepdim=True) for part in (both, predicted, actual))
        total = self.total(predicted, actual)
        return float((both / total.clamp(min=1e-12)).mean())

    def total(self, predicted: Tensor, actual: Tensor) -> Tensor:
        """What the counts of being both are a part of, (K,)."""
        raise NotImplementedError


class Precision(Averaged):
    """The fraction of what was said of a class that is right."""

    title = "Precision"
    short = "prec"
    axis = "precision (fraction)"

    def total(self, predicted: Tensor, actual: Tensor) -> Tensor:
        """How often it was said."""
        return predicted


class Recall(Averaged):
    """The fraction of a class that was found."""

    title = "Recall"
    short = "recall"
    axis = "recall (fraction)"

    def total(self, predicted: Tensor, actual: Tensor) -> Tensor:
        """How many there are."""
        return actual


class F1(Averaged):
    """The harmonic mean of precision and recall."""

    title = "F1"
    short = "F1"
    axis = "F1 (fraction)"

    def total(self, predicted: Tensor, actual: Tensor) -> Tensor:
        """2 both / (said + right), as a fraction of their mean."""
        return (predicted + actual) / 2


def ratio(part: float, whole: float) -> float:
    """A fraction; NaN of nothing."""
    return part / whole if whole else math.nan


def _stacked(*counts: Tensor) -> Tensor:
    import torch

    return torch.cat([count.double() for count in counts])
