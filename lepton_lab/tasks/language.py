"""
Texts: what comes next.

Legend of the shape comments: B samples, T tokens, K kinds of tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .base import OwnLoss, Paired

if TYPE_CHECKING:
    from ..datasets import Data


class LanguageModel(Paired):
    """
    The next token: scores (B, T, K), and the tokens (B, T) after each place, by the mean cross entropy over tokens.

    Targets of -100, such as padding, don't count.
    """

    @classmethod
    def refuse(cls, shape: tuple[int, ...], classes: int, vocabulary: int) -> str:
        """Needs tokens as x, and those that come next as y."""
        if vocabulary and vocabulary == classes:
            return ""
        return "needs tokens (N, T) as x, and as y those that come next; samples are none"

    @classmethod
    def suits(cls, data: Data) -> bool:
        """Whether each token is to be predicted from those before it."""
        return data.vocabulary > 0 and data.vocabulary == len(data.classes)

    def usual(self) -> OwnLoss:
        """Cross entropy over tokens."""
        from ..losses import token_loss

        return token_loss
