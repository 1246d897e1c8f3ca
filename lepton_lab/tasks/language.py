"""
Texts: what comes next.

Legend of the shape comments: B samples, T tokens, K kinds of tokens.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from ..losses import IGNORED, token_loss
from ..objectives import Criterion
from ..pictures import TRUTH, Text, words
from .base import OwnLoss, Paired
from .seeing import answer, kinds, pieces, spelled

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from ..datasets import Data
    from ..pictures import Picture

MASKED, CHANGED = 0.8, 0.1  # of the chosen tokens, which are masked, and which become any other (Devlin et al., 2019)


class LanguageModel(Paired):
    """
    The next token: scores (B, T, K), and the tokens (B, T) after each place, by the mean cross entropy over tokens.

    Targets of -100, such as padding, don't count.
    """

    metrics = ("perplexity",)
    answers = "tokens"

    @classmethod
    def refuse(cls, shape: tuple[int, ...], classes: int, vocabulary: int) -> str:
        """Needs tokens as x, and those that come next as y."""
        if vocabulary and vocabulary == classes:
            return ""
        return "needs tokens (N, T) as x, and as y those that come next; samples are none"

    def usual(self) -> OwnLoss:
        """Cross entropy over tokens."""
        return token_loss

    def picture(self, x: Any, y: Any, output: Any) -> Picture:
        """The text, and at each place what was predicted of the text before it."""
        return answer(output[0], y[0], self.data)


class MaskedLanguageModel(Paired):
    """
    Tokens that were masked: scores (B, T, K) of tokens (B, T), by the mean cross entropy over those that were chosen.

    Of the chosen ones 80 % become the mask, 10 % any token, and 10 % stay. y is not looked at, but where it has x's
    shape, and is -100 (padding) nothing is chosen. Source: J. Devlin et al., BERT, 2019, section 3.1.

    Parameters
    ----------
    data, loss
        As of every task, see `lepton_lab.Task`; a loss compares scores with tokens, of which -100 do not count.
    chosen
        Fraction of the tokens that are chosen, above 0 and below 1.
    mask_token
        Number of the mask among the tokens.
    """

    plain = False
    metrics = ("perplexity",)
    answers = "tokens"
    everywhere = True

    @classmethod
    def sees(cls, shape: tuple[int, ...], classes: int, vocabulary: int) -> tuple[tuple[int, ...], int, int]:
        """Tokens, each of which may be any of them."""
        return shape, vocabulary, vocabulary

    def __init__(
        self,
        data: Data,
        loss: OwnLoss | None = None,
        *,
        chosen: Annotated[float, Field(gt=0, lt=1)] = 0.15,
        mask_token: Annotated[int, Field(ge=0)] = 0,
    ) -> None:
        kinds = max(data.vocabulary, mask_token + 1)
        super().__init__(
            dataclasses.replace(data, classes=[str(i) for i in range(kinds)], vocabulary=kinds, tokens=""), loss
        )
        self.chosen, self.mask_token, self._spelling = chosen, mask_token, data

    @classmethod
    def refuse(cls, shape: tuple[int, ...], classes: int, vocabulary: int) -> str:
        """Needs tokens."""
        return "" if vocabulary else "needs tokens (N, T) as x; samples are none"

    def prepare(self, batch: Any, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Tokens with masks, and what was chosen of them."""
        import torch

        x, y = batch
        chances = torch.rand((2, *x.shape), generator=generator, device=x.device)
        any_token = torch.randint(self.data.vocabulary, x.shape, generator=generator, device=x.device)
        chosen = chances[0] < self.chosen
        if y.shape == x.shape:
            chosen &= y != IGNORED
        masked = torch.full_like(x, self.mask_token).where(chances[1] < MASKED, x)
        masked = any_token.where(chances[1] > 1 - CHANGED, masked)
        return masked.where(chosen, x), x.where(chosen, IGNORED)

    def usual(self) -> OwnLoss:
        """Cross entropy over tokens."""
        return token_loss

    def reading(self, model: nn.Module) -> dict[str, Any]:
        """The mask, and how tokens are spelled, which are no labels of the data."""
        text = {"names": kinds(self._spelling), "kind": self._spelling.tokens}
        return {"text": text, **super().reading(model), "mask": self.mask_token}

    def picture(self, x: Any, y: Any, output: Any) -> Picture:
        """The text, and the same with what was predicted in the place of the tokens that were chosen."""
        chosen, best = y[0] != IGNORED, output[0].argmax(-1)
        text, names = y[0].where(chosen, x[0]), kinds(self._spelling)
        filled = pieces(best.where(chosen, text), best == text, self._spelling, names, chosen)
        return {TRUTH: words(spelled(text, self._spelling, names)), "filled in": Text(filled)}

    def criterion(self, total: Callable[[Tensor], Tensor] | None = None) -> Criterion:
        """The loss over those that were chosen, which the data can't tell."""
        return Criterion(self.given or self.usual(), None, total, tokens=True)
