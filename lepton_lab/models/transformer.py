"""
Transformer encoder: every token sees every other, and their mean is classified.

Legend of the shape comments: B samples, C channels, H height, W width, P side of a patch, T tokens, E width of the
model, K classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from .blocks import Block, Embedding, initialise


class Transformer(nn.Module):
    """
    Patches of an image, or tokens, -> vectors -> blocks, in which all see all -> scores of the classes.

    After Dosovitskiy and others, An Image is Worth 16x16 Words, arXiv:2010.11929, with the mean of all tokens in place
    of a class token. `embed`, `blocks` and `head` are all there is, in that order: a pipeline may cut between any two
    blocks.

    Parameters
    ----------
    embed
        Samples -> (B, T, E).
    outputs
        K.
    width, heads, depth
        E; heads of each block; blocks.
    dropout
        Fraction left out of what each layer adds, in training.
    pooled
        Whether the mean of all tokens is scored; else each is by itself.
    """

    def __init__(
        self,
        embed: Patches | Embedding,
        outputs: int,
        width: int,
        heads: int,
        depth: int,
        dropout: float = 0.0,
        pooled: bool = True,
    ) -> None:
        super().__init__()
        self.embed = embed
        self.blocks = nn.Sequential(*(Block(width, heads, dropout, causal=False) for _ in range(depth)))
        self.head = Head(width, outputs, pooled)
        initialise(self, depth)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) pixels or (B, T) tokens -> (B, K); (B, T, K) of each token."""
        x = self.embed(x)  # (B, T, E)
        x = self.blocks(x)  # (B, T, E)
        return self.head(x)  # (B, K) or (B, T, K)


class Patches(nn.Module):
    """An image as tokens: squares of it, each flattened and mapped to a vector, with learned positions added."""

    def __init__(self, shape: tuple[int, ...], patch: int, width: int, dropout: float) -> None:
        super().__init__()
        channels, *sides = shape
        self.patch = patch
        rows, columns = (-(-side // patch) for side in sides)
        below, beside = rows * patch - sides[0], columns * patch - sides[1]
        self.margin = (0, beside, 0, below)  # zeros on the right and below, where patches don't fill the image
        self.project = nn.Linear(channels * patch * patch, width)
        self.positions = nn.Parameter(torch.empty(rows * columns, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, T, E) with T = (H / P) * (W / P)."""
        P = self.patch
        x = functional.pad(x, self.margin)
        x = x.unfold(2, P, P).unfold(3, P, P)  # (B, C, H / P, W / P, P, P)
        x = x.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)  # (B, T, C * P * P)
        return self.dropout(self.project(x) + self.positions * self.positions.shape[1] ** 0.5)


class Head(nn.Module):
    """Scores of the classes from the mean of all tokens, or of each token."""

    def __init__(self, width: int, outputs: int, pooled: bool) -> None:
        super().__init__()
        self.pooled = pooled
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, E) -> (B, K) or (B, T, K)."""
        return self.out(self.norm(x.mean(1) if self.pooled else x))
