"""
Encoder and decoder: reads a source whole, and writes a target token by token, looking back at the source.

Legend of the shape comments: B samples, S tokens of a source, T of a target, E width, H heads, K kinds of tokens.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..errors import SpecError
from .blocks import MLP, Attention, Block, Embedding, initialise
from .fitting import Positions

PAD = 0
"""The token that fills up a source, which nobody looks at."""
LONGER = 4
"""How many times as long as a source a target may be."""


class EncoderDecoder(nn.Module):
    """
    Source -> memory, which all tokens of a target look at -> scores of each next token of the target.

    After Vaswani and others, Attention Is All You Need, arXiv:1706.03762, with the norms first. `encode` is called once
    a source, `decode` once a token that is written.

    Parameters
    ----------
    vocabulary, kinds
        Kinds of tokens of sources, of which PAD is padding; K, of targets.
    context
        Most tokens of a source; a target has at most LONGER times as many.
    width, heads, depth
        E; heads of each attention; blocks of the encoder, and as many of the decoder.
    dropout
        Fraction left out of the embeddings and of what each layer adds, in training.
    positions
        How tokens know where they are: see `Embedding` and `Rotary`.
    """

    def __init__(
        self,
        vocabulary: int,
        kinds: int,
        context: int,
        width: int,
        heads: int,
        depth: int,
        dropout: float = 0.0,
        positions: Positions = "sinusoidal",
    ) -> None:
        super().__init__()
        self.longest = LONGER * context
        turned = self.longest if positions == "rotary" else 0
        self.sources = Embedding(vocabulary, context, width, dropout, positions)
        self.encoder = nn.ModuleList(Block(width, heads, dropout, causal=False, rotary=turned) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.targets = Embedding(kinds, self.longest, width, dropout, positions)
        self.decoder = nn.ModuleList(DecoderBlock(width, heads, dropout, turned) for _ in range(depth))
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, kinds, bias=False))
        initialise(self, depth)

    def forward(self, source: Tensor, before: Tensor) -> Tensor:
        """Sources (B, S), and the tokens before each place of targets (B, T) -> scores of the next (B, T, K)."""
        return self.decode(before, self.encode(source), seen(source))

    def encode(self, source: Tensor) -> Tensor:
        """(B, S) -> the memory (B, S, E)."""
        x = self.sources(source)  # (B, S, E)
        for block in self.encoder:
            x = block(x, seen(source))
        return self.norm(x)

    def decode(self, before: Tensor, memory: Tensor, seen: Tensor) -> Tensor:
        """(B, T), (B, S, E) and which tokens of the source are there (B, 1, 1, S) -> (B, T, K)."""
        if before.shape[1] > self.longest:
            raise SpecError(
                f"target: {before.shape[1]} tokens are too long; this model was made for at most {self.longest}, "
                f"{LONGER} times those of a source"
            )
        x = self.targets(before)  # (B, T, E)
        for block in self.decoder:
            x = block(x, memory, seen)
        return self.head(x)

    def attention(self, source: Tensor, before: Tensor) -> Tensor:
        """Where each place of a target looks in the source, by the last block of the decoder: (B, H, T, S)."""
        found: list[Tensor] = []
        cross: Any = self.decoder[-1].cross
        hook = cross.register_forward_pre_hook(lambda _, inputs: found.append(weights(cross, *inputs)))
        try:
            self(source, before)
        finally:
            hook.remove()
        return found[0]


class DecoderBlock(nn.Module):
    """Tokens look at those before them, then at the source, then each thinks by itself."""

    def __init__(self, width: int, heads: int, dropout: float, rotary: int = 0) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads, causal=True, rotary=rotary)
        self.norm2 = nn.LayerNorm(width)
        self.cross = Attention(width, heads, causal=False)
        self.norm3 = nn.LayerNorm(width)
        self.mlp = MLP(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, memory: Tensor, seen: Tensor) -> Tensor:
        """(B, T, E), (B, S, E) and (B, 1, 1, S) -> (B, T, E)."""
        x = x + self.dropout(self.attention(self.norm1(x)))
        x = x + self.dropout(self.cross(self.norm2(x), memory, seen))
        return x + self.dropout(self.mlp(self.norm3(x)))


def seen(source: Tensor) -> Tensor:
    """Which tokens of a source (B, S) are no padding, (B, 1, 1, S); the first always is, so that there is one."""
    there = source != PAD
    first = torch.arange(source.shape[1], device=source.device) == 0
    return (there | first)[:, None, None]


def weights(attention: Attention, x: Tensor, memory: Tensor, seen: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(D)) of an attention without positions of its own: (B, H, T, S)."""
    q, k = attention.heads(attention.q(x)), attention.heads(attention.k(memory))
    scores = q @ k.mT * attention.head_size**-0.5  # (B, H, T, S)
    return scores.masked_fill(~seen, -torch.inf).softmax(-1)
