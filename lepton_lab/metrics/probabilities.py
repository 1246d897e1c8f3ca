"""
How good the probabilities are that outputs stand for.

Legend of the shape comments: B samples, K classes, L labels, M bins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from .base import Metric
from .classes import ratio
from .scores import counting, of_classes, of_labels

if TYPE_CHECKING:
    from torch import Tensor

    from ..datasets import Data
    from ..objectives import Criterion


class LogLoss(Metric):
    """The mean of -log p of what is right (natural logarithm), whatever is minimised; of labels over all of them."""

    title = "Log loss"
    short = "log loss"
    axis = "-log p (natural logarithm)"
    higher = False
    kinds = ("classes", "tokens", "labels")

    def update(self, output: Any, target: Any) -> Tensor | None:
        """The sum, and how many count."""
        import torch
        from torch.nn import functional

        if (answers := of_classes(output, target, self.criterion)) is not None:
            scores, labels = answers
            counts = counting(labels, scores.shape[-1], self.criterion)
            right = scores.double().log_softmax(-1).gather(-1, labels.where(counts, 0)[..., None])[..., 0]
            return torch.stack([-right.where(counts, 0).sum(), counts.sum().double()])
        if (answers := of_labels(output, target)) is not None:
            scores, yes = (part.double() for part in answers)
            total = functional.binary_cross_entropy_with_logits(scores, yes, reduction="sum")
            return torch.stack([total, total.new_tensor(yes.numel())])
        return None

    def finish(self, sums: Tensor) -> float:
        """The mean."""
        return ratio(*sums.tolist())


class CalibrationError(Metric):
    """
    How far confidence is from accuracy, the mean over bins of equal width weighted by their answers (ECE).

    Confidence is the probability of the answer that is given: Guo and others, ICML 2017.

    Parameters
    ----------
    bins
        Bins of confidence from 0 to 1.
    """

    title = "Calibration error"
    short = "ECE"
    axis = "confidence less accuracy (fraction)"
    form = ".2%"
    higher = False
    kinds = ("classes", "tokens", "labels")

    def __init__(self, data: Data, criterion: Criterion, *, bins: Annotated[int, Field(ge=1, le=10_000)] = 15) -> None:
        super().__init__(data, criterion)
        self._bins = bins

    def update(self, output: Any, target: Any) -> Tensor | None:
        """Of each bin the answers, their confidence and how many are right: (3 M,)."""
        import torch

        if (answers := of_classes(output, target, self.criterion)) is not None:
            scores, labels = answers
            counts = counting(labels, scores.shape[-1], self.criterion)
            sure, predicted = scores.double().softmax(-1).max(-1)
            right = predicted == labels
        elif (answers := of_labels(output, target)) is not None:
            chance = answers[0].double().sigmoid()
            sure, right = chance.maximum(1 - chance), (chance > 0.5) == (answers[1] > 0.5)
            counts = torch.ones_like(right)
        else:
            return None
        place = ((sure * self._bins).ceil().long() - 1).clamp(0, self._bins - 1).flatten()
        sums = [
            sure.new_zeros(self._bins).index_add(0, place, (part * counts).double().flatten())
            for part in (torch.ones_like(sure), sure, right)
        ]
        return torch.cat(sums)

    def finish(self, sums: Tensor) -> float:
        """The mean distance, by answers."""
        answers, sure, right = sums.view(3, -1)
        return ratio(float((sure - right).abs().sum()), float(answers.sum()))
