"""
Tokens for tokens, as in translation.

Legend of the shape comments: B samples, S tokens of a source, T of a target, K kinds of tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from ..losses import IGNORED, token_loss
from ..objectives import Criterion
from .base import OwnLoss, Paired
from .beams import decode
from .seeing import answer, inputs

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..datasets import Data
    from ..pictures import Picture

SEEN = 64  # targets by which it is told how long a file's answers get


class SequenceToSequence(Paired):
    """
    The next token of a target, from a source and the target's true tokens before it (teacher forcing).

    Samples are pairs of tokens, (S,) and (T,), where a target has no start but its own end. The model is called with
    sources (B, S) and the tokens before each place (B, T), and scores what stands there (B, T, K); compared by the mean
    cross entropy over tokens, of which -100 (padding) do not count. `decode` writes targets. Word and character error
    rate and BLEU compare what the model writes by itself, greedily; token accuracy what it says of each place.

    Parameters
    ----------
    start_token
        Number of the token that stands before a target's first.
    pad_token
        Number of the token that the model is given where a target is over.
    end_token
        Number of the token that ends a target, of which metrics of texts compare what stands before it.
    """

    plain = False
    nests = True
    metrics = ("perplexity",)
    answers = "tokens"
    table_models = False
    writes = True
    opens = ((1, 1),)

    def __init__(
        self,
        data: Data,
        loss: OwnLoss | None = None,
        *,
        start_token: Annotated[int, Field(ge=0)] = 1,
        pad_token: Annotated[int, Field(ge=0)] = 0,
        end_token: Annotated[int, Field(ge=0)] = 2,
    ) -> None:
        super().__init__(data, loss)
        self.start_token, self.pad_token, self.end_token = start_token, pad_token, end_token

    @classmethod
    def refuse(cls, shape: tuple[int, ...], classes: int, vocabulary: int) -> str:
        """Needs tokens for tokens."""
        return "" if vocabulary and classes else "needs tokens (N, S) as x and (N, T) as y; samples are none"

    def split(self, batch: Any) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """Source and tokens before each place; the tokens there."""
        import torch

        x, y = batch
        before = torch.cat([torch.full_like(y[:, :1], self.start_token), y[:, :-1]], 1)
        return (x, before.where(before != IGNORED, self.pad_token)), y

    def usual(self) -> OwnLoss:
        """Cross entropy over tokens."""
        return token_loss

    def reading(self, model: nn.Module) -> dict[str, Any]:
        """What a target begins, ends and is filled up with, how long the longest of some are, twice, and its words."""
        some = [self.data.train[1][:SEEN]] if isinstance(self.data.train, tuple) else self._targets()
        longest = max(target.shape[-1] for target in some)
        facts = {"start": self.start_token, "pad": self.pad_token, "end": self.end_token, "length": 2 * longest}
        words = {"words": list(self.data.classes)} if self.data.pieces else {}  # others than those of a source
        return super().reading(model) | facts | words

    def _targets(self) -> list[Tensor]:
        import torch

        split: Any = self.data.train
        return [torch.as_tensor(split[place][1]) for place in range(min(SEEN, len(split)))]

    def picture(self, x: Any, y: Any, output: Any) -> Picture:
        """The source, the target, and at each place what was predicted after the target's true tokens."""
        return {**inputs(x[0], self.data), **answer(output[0], y[0], self.data)}

    def criterion(self, total: Callable[[Tensor], Tensor] | None = None) -> Criterion:
        """The loss over the tokens that count."""
        return Translated(self, total)

    def written(self, model: Any, x: Any, length: int) -> list[list[int]]:
        """The most likely token after another (greedy), to each target's end; all ranks call the model alike."""
        import torch

        source = x[0]
        tokens = source.new_full((len(source), 1), self.start_token)
        for _ in range(length):
            tokens = torch.cat([tokens, model(source, tokens)[:, -1:].argmax(-1)], 1)
        return [self.upto(one) for one in tokens[:, 1:].tolist()]

    def upto(self, tokens: list[int]) -> list[int]:
        """Tokens before the end, without padding."""
        end = tokens.index(self.end_token) if self.end_token in tokens else len(tokens)
        return [token for token in tokens[:end] if token != IGNORED]

    decode = staticmethod(decode)


class Translated(Criterion):
    """The loss over the tokens that count, and what was written in place of them."""

    kind = "tokens"

    def __init__(self, task: SequenceToSequence, total: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__(task.given or task.usual(), None, total, tokens=True)
        self._task = task

    def decoded(self, output: Any, target: Any) -> tuple[Any, Any] | None:
        """Of what a model wrote, that and the targets before their end."""
        if not isinstance(output, list):
            return super().decoded(output, target)
        return output, [self._task.upto(one) for one in target.tolist()]
