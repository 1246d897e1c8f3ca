"""
Which words stand near a word.

Legend of the shape comments: B samples, T tokens, R pairs of a word and one near it, M drawn words, V kinds of words.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from ..errors import SpecError
from ..pictures import Bars, Picture, words
from .base import OwnLoss, Paired

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from ..datasets import Data

POWER = 0.75  # of a word's frequency, by which others are drawn: rare ones more often than they occur (Mikolov, 2.2)
Count = Annotated[int, Field(ge=1)]
Few = Annotated[int, Field(ge=1, le=100)]  # since memory goes with them: a batch scores as many times its words


class SkipGram(Paired):
    """
    A word that stands near another is to score above drawn ones: x (N, T) are tokens of running text.

    Skip-gram with negative sampling: T. Mikolov et al., Distributed Representations of Words and Phrases and their
    Compositionality, 2013, equation 4. The model is called with words (R,) and others (R, 1 + M), of which the first
    stands near, and scores them (R, 1 + M); minimised is the mean of -log sigmoid(near) - sum log sigmoid(-drawn). y is
    not looked at. The accuracy is how often the near word scores highest.

    Parameters
    ----------
    data, loss
        As of every task, see `lepton_lab.Task`; an own loss compares scores with the place of the near word, 0.
    window
        Words on each side that count as near, at least 1; the nearer, the more often, as in word2vec.
    contexts
        Near words that are drawn for each word in each epoch, at least 1: R = B T contexts.
    negatives
        Words that are drawn beside each near one, from 1 to 100, by their frequency to the power 0.75; 5 to 20 are
        usual (Mikolov, 2.2).
    """

    plain = False
    nests = True
    places = True
    answers = "classes"
    table_models = False
    opens = ((1, 1),)
    everywhere = True

    def __init__(
        self, data: Data, loss: OwnLoss | None = None, *, window: Count = 5, contexts: Count = 4, negatives: Few = 5
    ) -> None:
        import torch

        super().__init__(dataclasses.replace(data, classes=[str(i) for i in range(1 + negatives)]), loss)
        if not isinstance(data.train, tuple):
            raise SpecError("task='skip_gram': counts words before it starts, and needs texts in memory as x (N, T)")
        self.window = min(window, (data.shape[0] - 1) // 2)
        if not self.window:
            raise SpecError(f"task='skip_gram': rows of {data.shape[0]} tokens have none near; make rows of 3 or more")
        self.contexts, self.negatives, self._spelling = contexts, negatives, data
        counts = torch.bincount(data.train[0].flatten().long(), minlength=data.vocabulary)  # (V,)
        self._below = counts.double().pow(POWER).cumsum(0)

    @classmethod
    def refuse(cls, shape: tuple[int, ...], classes: int, vocabulary: int) -> str:
        """Needs rows of tokens."""
        return "" if vocabulary and len(shape) == 1 else "needs tokens of running text (N, T) as x"

    def prepare(self, batch: Any, generator: torch.Generator) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """Each word, one that stands near with those that are drawn, and the place of the former."""
        import torch

        x = batch[0].repeat_interleave(self.contexts, 1)  # (B, T contexts)
        T = batch[0].shape[1]
        here = torch.arange(T, device=x.device).repeat_interleave(self.contexts)

        def drawn(*shape: int) -> Tensor:
            return torch.rand(shape, generator=generator, device=x.device)

        reach = (drawn(*x.shape) * self.window).long() + 1  # how far it looks this time
        away = (drawn(*x.shape) * reach).long() + 1
        away = away.where(drawn(*x.shape) < 0.5, -away)
        beyond = (here + away < 0) | (here + away >= T)
        near = batch[0].gather(1, here + away.where(~beyond, -away))  # which is within: the window is less than T / 2
        below = self._below.to(x.device)
        shares = drawn(x.numel(), self.negatives).double() * below[-1]
        others = torch.searchsorted(below, shares, right=True).clamp(max=len(below) - 1)
        near = near.flatten()[:, None].long()
        return (x.flatten(), torch.cat([near, others], 1)), torch.zeros_like(near[:, 0])

    def labels(self, model: nn.Module) -> list[str]:
        """None: scores are of the words that were asked for."""
        return []

    def usual(self) -> OwnLoss:
        """The logistic loss, the near word first."""
        return logistic

    def picture(self, x: Any, y: Any, output: Any) -> Picture:
        """The word, and how likely each of the others is said to stand near it."""
        (word, others), chances = x, output[0].float().sigmoid().tolist()
        names = self._spelling.pieces or [str(i) for i in range(self._spelling.vocabulary)]
        near = [names[int(other)] for other in others[0]]
        bars = {name: (name, chance, i == 0) for i, (name, chance) in enumerate(zip(near, chances, strict=True))}
        return {"word": words(names[int(word[0])]), "near it": words(near[0]), "said": Bars([*bars.values()])}


def logistic(scores: Tensor, places: Tensor) -> Tensor:
    """Scores (R, 1 + M), the near word's first -> the mean over words of its loss and those of the drawn ones."""
    from torch.nn.functional import logsigmoid

    return -(logsigmoid(scores[:, 0]) + logsigmoid(-scores[:, 1:]).sum(1)).mean()
