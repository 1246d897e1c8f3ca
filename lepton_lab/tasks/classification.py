"""
Labels: one of a sample, one of each place in it, or several.

Legend of the shape comments: B samples, K classes, H x W pixels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from ..errors import SpecError
from .base import OwnLoss, Paired, targets_of
from .seeing import answer, inputs, labels

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..datasets import Data
    from ..objectives import Criterion
    from ..pictures import Picture


class Classification(Paired):
    """
    A class a sample: scores (B, K) and whole numbers (B,), compared by cross entropy; of texts also one a token.

    An own loss, `loss(outputs, targets)`, takes its place.
    """

    answers = "classes"

    @classmethod
    def refuse(cls, shape: tuple[int, ...], classes: int, vocabulary: int) -> str:
        """Needs labels."""
        return "" if classes else "needs targets that are whole numbers, and these are none; take task='regression'"


class Segmentation(Paired):
    """
    A class a pixel, or any other place of a sample: whole numbers (B, H, W), compared by cross entropy.

    Parameters
    ----------
    class_axis
        Where the model's outputs have the scores of classes: first of each sample's axes, (B, K, H, W), as torch's
        losses take them, or last, (B, H, W, K).
    """

    answers = "classes"
    table_models = False

    def __init__(
        self, data: Data, loss: OwnLoss | None = None, *, class_axis: Literal["first", "last"] = "first"
    ) -> None:
        super().__init__(data, loss)
        self.class_axis = class_axis

    @classmethod
    def refuse(cls, shape: tuple[int, ...], classes: int, vocabulary: int) -> str:
        """Needs labels."""
        return Classification.refuse(shape, classes, vocabulary)

    def reading(self, model: nn.Module) -> dict[str, Any]:
        """Where the scores of classes are."""
        return super().reading(model) | {"class_axis": self.class_axis}

    def usual(self) -> OwnLoss:
        """Cross entropy along the axis that is said."""
        from torch.nn import functional

        from ..losses import token_loss

        return token_loss if self.class_axis == "last" else functional.cross_entropy

    def criterion(self, total: Callable[[Tensor], Tensor] | None = None) -> Criterion:
        """The loss of scores along that axis, by which metrics go too."""
        criterion = super().criterion(total)
        criterion.axis = self.class_axis
        return criterion

    def picture(self, x: Any, y: Any, output: Any) -> Picture:
        """The sample, its classes, and those that were predicted."""
        return {**inputs(x, self.data), **answer(output[0], y[0], self.data, last=self.class_axis == "last")}


class Multilabel(Paired):
    """
    Several labels a sample, each yes or no: scores (B, K), and targets (B, K) of 0 and 1, by binary cross entropy.

    Labels are called by the Dataset's own `classes`, else by their number.
    """

    metrics = ("roc_auc",)
    answers = "labels"
    table_data = False

    def __init__(self, data: Data, loss: OwnLoss | None = None) -> None:
        super().__init__(data, loss)
        targets = targets_of(data)
        if targets.dim() != 2 or not ((targets == 0) | (targets == 1)).all():
            raise SpecError(
                f"task='multilabel': targets must be rows of 0 and 1, one for each label, and a batch of two is "
                f"{tuple(targets.shape)}; take task='classification' where a sample has one label"
            )
        labels = data.classes if len(data.classes) == targets.shape[1] else [str(i) for i in range(targets.shape[1])]
        self.data = dataclasses.replace(data, classes=labels)

    def split(self, batch: Any) -> tuple[Tensor, Tensor]:
        """The pair, with targets as numbers."""
        return batch[0], batch[1] if batch[1].is_floating_point() else batch[1].float()

    def usual(self) -> OwnLoss:
        """Binary cross entropy of scores."""
        from torch.nn import functional

        return functional.binary_cross_entropy_with_logits

    def picture(self, x: Any, y: Any, output: Any) -> Picture:
        """The sample, and how sure each label is."""
        return {**inputs(x, self.data), "labels": labels(output[0], y[0], self.data)}
