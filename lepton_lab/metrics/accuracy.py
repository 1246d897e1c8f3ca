"""The fraction of right answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .base import Metric

if TYPE_CHECKING:
    from torch import Tensor


class Accuracy(Metric):
    """The fraction of right answers, where the class of the highest score is one; of the targets that count."""

    title = "Accuracy"
    short = "acc"
    axis = "accuracy (fraction)"
    form = ".2%"
    highest = 1.0
    telling = ("classes",)
    training = True
    usual = True

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
