"""Numbers that are predicted."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from .base import OwnLoss, Paired

if TYPE_CHECKING:
    from torch import Tensor

    from ..datasets import Data


class Regression(Paired):
    """Numbers: outputs (B, ...) and as many targets, by the squared error; whole numbers are taken as such."""

    metrics = ("r2", "mae")
    answers = "numbers"

    @classmethod
    def sees(cls, shape: tuple[int, ...], classes: int, vocabulary: int) -> tuple[tuple[int, ...], int, int]:
        """Without classes."""
        return shape, 0, vocabulary

    def __init__(self, data: Data, loss: OwnLoss | None = None) -> None:
        super().__init__(dataclasses.replace(data, classes=[]), loss)

    def split(self, batch: Any) -> tuple[Any, Tensor]:
        """The pair, with targets as numbers."""
        x, y = batch
        return x, y if y.is_floating_point() else y.float()
