"""
Where in a text the answer to a question stands.

Legend of the shape comments: B samples, T tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..errors import SpecError
from ..losses import IGNORED
from ..objectives import Criterion
from ..pictures import TRUTH, words
from .base import OwnLoss, Paired, targets_of
from .seeing import inputs, spelled

if TYPE_CHECKING:
    from torch import Tensor

    from ..datasets import Data
    from ..pictures import Picture


class QuestionAnswering(Paired):
    """
    The first and the last token of an answer: scores (B, T, 2), and their places (B, 2), by cross entropy over places.

    Samples are the tokens of a question and of the text that answers it, (T,). Source: J. Devlin et al., BERT, 2019,
    section 4.2. `span` reads an answer from scores.
    """

    metrics = ("exact_match",)
    answers = "classes"
    table_models = table_data = False

    def __init__(self, data: Data, loss: OwnLoss | None = None) -> None:
        super().__init__(data, loss)
        if targets_of(data).shape != (2, 2):
            raise SpecError(f"task='question_answering': {self.refuse((), 0, 0)}; targets are others")
        for part in (data.train, data.val, data.test):
            if isinstance(part, tuple):
                _stand(part[1])

    @classmethod
    def refuse(cls, shape: tuple[int, ...], classes: int, vocabulary: int) -> str:
        """Needs tokens, and places among them."""
        fit = vocabulary and len(shape) == 1 and 0 < classes <= shape[0]
        return (
            ""
            if fit
            else "needs tokens (N, T) as x, and as y the places (N, 2) of the answer's first and last, within it"
        )

    def usual(self) -> OwnLoss:
        """Cross entropy over places."""
        from torch.nn import functional

        return functional.cross_entropy

    def criterion(self, total: Callable[[Tensor], Tensor] | None = None) -> Criterion:
        """The loss of two places a sample, whose classes come first."""
        criterion = super().criterion(total)
        criterion.axis = "first"
        return criterion

    def picture(self, x: Any, y: Any, output: Any) -> Picture:
        """The question and the text, the answer, and the one that was found."""
        return {**inputs(x, self.data), **self.answer(x[0], y[0], output, self.data)}

    @classmethod
    def answer(cls, tokens: Tensor, places: Tensor, scores: Tensor, data: Data) -> Picture:
        """The answer in a text (T,), from one place to another, (2,), and the one that is found by scores (1, T, 2)."""
        found, right = (
            spelled(tokens[first : last + 1], data, data.pieces)
            for first, last in (cls.span(scores)[0].tolist(), places.tolist())
        )
        return {TRUTH: words(right), "predicted": words(found, found == right)}

    @staticmethod
    def span(scores: Tensor) -> Tensor:
        """The likeliest first and last token of each answer (B, 2), of scores (B, T, 2): none ends before it starts."""
        import torch

        start, end = scores.log_softmax(1).unbind(-1)  # (B, T) each
        both = (start[:, :, None] + end[:, None]).masked_fill(~_forward(scores), -torch.inf)
        place = both.flatten(1).argmax(1)
        return torch.stack([place // both.shape[1], place % both.shape[1]], 1)


def _stand(places: Tensor) -> None:
    """Refuse answers, (N, 2), that end before they start; a place that does not count may be anywhere."""
    wrong = places[(places[:, 0] > places[:, 1]) & (places != IGNORED).all(1)]
    if len(wrong):
        first, last = wrong[0].tolist()
        raise SpecError(
            f"task='question_answering': an answer is to stand from place {first} to {last}: give as y (N, 2) the "
            "first of its tokens, and then the last"
        )


def _forward(scores: Tensor) -> Tensor:
    """Of each pair of places (T, T) whether the second is not before the first."""
    return scores.new_ones(scores.shape[1], scores.shape[1]).triu().bool()
