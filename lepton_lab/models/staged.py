"""
A Transformer for texts that first learns language, and then what it is asked: the body stays, heads are put on.

Legend of the shape comments: B samples, T tokens of a text, S of a source, E width, V kinds of tokens, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from .bert import Bert
from .encoder_decoder import EncoderDecoder
from .gpt import GPT

PARTS = ("encoder", "decoder", "both")


class Staged(nn.Module):
    """
    One of the lab's Transformers: `Bert` as an encoder, `GPT` as a decoder, `EncoderDecoder` as both.

    It speaks as that does, until heads are put on: then it reads a text, and each head scores its classes from the mean
    of what was read, so that several tasks share one body (Caruana, Multitask Learning, 1997).

    Parameters
    ----------
    parts
        One of PARTS.
    vocabulary
        V; token 0 is padding.
    context
        Most tokens that it reads at once.
    width, heads, depth
        E; heads of each attention; blocks, of encoder and decoder each.
    dropout
        Fraction left out of what each layer adds, in training.
    """

    def __init__(
        self, parts: str, vocabulary: int, context: int, width: int, heads: int, depth: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.parts = parts
        if parts == "encoder":
            self.body: Any = Bert(vocabulary, context, vocabulary, width, heads, depth, dropout, each=True)
        elif parts == "decoder":
            self.body = GPT(vocabulary, context, width, heads, depth, dropout, rotary=True)
        else:
            self.body = EncoderDecoder(vocabulary, vocabulary, context, width, heads, depth, dropout)
        self.width = width
        self.heads = nn.ModuleDict()
        self.speaks = True

    def ask(self, classes: Mapping[str, int]) -> None:
        """Put a head on for each name, with so many classes; one that is there already stays as it learned."""
        self.speaks = not classes
        for part in self._mouth():  # which no gradient reaches while it reads
            part.requires_grad_(self.speaks)
        for name in [name for name in self.heads if name not in classes]:
            del self.heads[name]
        for name, count in classes.items():
            if name not in self.heads or self.heads[name].out_features != count:
                self.heads[name] = nn.Linear(self.width, count)

    def forward(self, tokens: Tensor, before: Tensor | None = None) -> Tensor | dict[str, Tensor]:
        """
        Texts (B, T) -> scores of each head by its name (B, K), or of the only one.

        Without heads -> scores of tokens (B, T, V); of both parts, sources (B, S) and the tokens before each place of
        what is to be written (B, T).
        """
        if self.speaks:
            return self.body(tokens) if before is None else self.body(tokens, before)
        read = self.read(tokens)
        scores = {name: head(read) for name, head in self.heads.items()}
        return scores if len(scores) > 1 else scores.popitem()[1]

    def read(self, tokens: Tensor) -> Tensor:
        """(B, T) -> (B, E), the mean of what was read of all that is no padding."""
        body = self.body
        if isinstance(body, Bert):
            return body.encode(tokens)
        x = body.encode(tokens) if isinstance(body, EncoderDecoder) else body.head.norm(body.blocks(body.embed(tokens)))
        there = Bert.seen(tokens)[..., None]  # (B, T, 1)
        return (x * there).sum(1) / there.sum(1)

    def _mouth(self) -> list[nn.Module]:
        """What of the body speaks alone."""
        body = self.body
        if isinstance(body, EncoderDecoder):
            return [body.targets, body.decoder, body.head]
        return [body.head.out if isinstance(body, GPT) else body.head]
