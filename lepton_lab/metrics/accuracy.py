"""The fraction of right answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..objectives import Criterion
from .base import Metric, kind

if TYPE_CHECKING:
    from torch import Tensor

    from ..datasets import Data


class Accuracy(Metric):
    """The fraction of right answers, where the class of the highest score is one; of the targets that count."""

    title = "Accuracy"
    short = "acc"
    axis = "accuracy (fraction)"
    form = ".2%"
    highest = 1.0
    telling = ("classes",)
    kinds = ("classes", "tokens")
    training = True
    usual = True

    @classmethod
    def of(cls, data: Data, criterion: Criterion, **options: Any) -> Metric | None:
        """As of every metric; what pairs compare with numbers by a loss of the user's own is no answer of classes."""
        plain = type(criterion).compared is Criterion.compared and data.example is None
        if plain and not data.classes and not kind(data, criterion):
            return None
        return super().of(data, criterion, **options)

    def update(self, output: Tensor, target: Tensor) -> Tensor | None:
        """Right answers, and answers."""
        import torch

        hits = self.criterion.hits(output, target)
        return None if hits is None else torch.stack([hits.double(), self.criterion.answers(target)])

    def finish(self, sums: Tensor) -> float:
        """Right answers to answers."""
        right, answers = sums.tolist()
        return right / max(answers, 1)

    def share(self, output: Tensor, target: Tensor) -> Tensor | None:
        """Right answers: as many as samples, if all those of their step are right."""
        return self.criterion.right(output, target)
