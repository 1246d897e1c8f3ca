"""
What transformers are made of: attention and MLP in a block, and the embedding of tokens.

Legend of the shape comments: B samples, T tokens, S of those looked at, E width, H heads, D head size (E = H * D).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import SpecError
from .fitting import Positions

BASE = 10_000.0  # wavelengths of positions run from 2 pi to 2 pi * BASE tokens (Vaswani, Su)


class Block(nn.Module):
    """
    Tokens look at each other, then each thinks by itself; both add to what is there.

    The norms come first ("pre-norm"), so that a straight path leads from the loss to every block (Xiong and others,
    arXiv:2002.04745).
    """

    tokenwise = ("norm1", "norm2", "dropout")
    """What treats each token by itself, so that ranks may cut it by tokens."""

    def __init__(self, width: int, heads: int, dropout: float, causal: bool, rotary: int = 0) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads, causal, rotary)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = MLP(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, seen: Tensor | None = None) -> Tensor:
        """(B, T, E), and `seen` as of Attention -> (B, T, E)."""
        x = x + self.dropout(self.attention(self.norm1(x), seen=seen))
        return x + self.dropout(self.mlp(self.norm2(x)))


class Attention(nn.Module):
    """
    Each token gathers from the others what their keys offer to its query, in several heads.

    softmax(q k^T / sqrt(D)) v (Vaswani and others, arXiv:1706.03762). Queries, keys and values have a layer each and
    the number of heads follows from what comes out of it, so that a layer may be split between ranks by its columns.

    Parameters
    ----------
    width, heads
        E and H; H divides E.
    causal
        Whether a token sees only itself and those before it.
    rotary
        Tokens that rotary positions are laid out for; 0 has none.
    """

    cut_by_columns, cut_by_rows = ("q", "k", "v"), "out"
    """Layers that ranks may cut by their outputs, and the layer that is then cut by its inputs and summed."""

    def __init__(self, width: int, heads: int, causal: bool, rotary: int = 0) -> None:
        super().__init__()
        self.head_size = width // heads
        self.causal = causal
        self.q = nn.Linear(width, width)
        self.k = nn.Linear(width, width)
        self.v = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.rotary = Rotary(self.head_size, rotary) if rotary else None

    def forward(self, x: Tensor, memory: Tensor | None = None, seen: Tensor | None = None) -> Tensor:
        """
        (B, T, E) -> (B, T, E).

        `memory` (B, S, E) are the tokens that are looked at, where they are others than x. `seen` (B, 1, 1, S) is False
        of those that are padding.
        """
        memory = x if memory is None else memory
        q, k, v = self.heads(self.q(x)), self.heads(self.k(memory)), self.heads(self.v(memory))  # (B, H, T or S, D)
        if self.rotary is not None:
            q, k = self.rotary(q), self.rotary(k)
        gathered = functional.scaled_dot_product_attention(q, k, v, seen, is_causal=self.causal)  # (B, H, T, D)
        return self.out(gathered.transpose(1, 2).flatten(2))  # (B, T, H * D)

    def heads(self, x: Tensor) -> Tensor:
        """(B, T, H * D) -> (B, H, T, D), whatever share of the heads this rank holds."""
        B, T, _ = x.shape
        return x.view(B, T, -1, self.head_size).transpose(1, 2)


class Rotary(nn.Module):
    """
    Positions as rotations: pairs of a head's numbers are turned by an angle that grows with the position.

    The product of a query and a key then depends on how far apart they are, not on where (Su and others,
    arXiv:2104.09864).
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, head_size: int, context: int) -> None:
        super().__init__()
        speeds = BASE ** (-torch.arange(0, head_size, 2) / head_size)  # (D / 2,) radians a token
        angles = torch.arange(context)[:, None] * speeds  # (T, D / 2)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, T, D) -> (B, H, T, D)."""
        T = x.shape[2]
        fits(T, len(self.cos))
        cos, sin = self.cos[:T].to(x.dtype), self.sin[:T].to(x.dtype)
        a, b = x.chunk(2, dim=-1)  # (B, H, T, D / 2) each: number i pairs with number i + D / 2
        return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


class MLP(nn.Module):
    """Each token by itself: up to four times the width, a smooth ReLU, and down again."""

    cut_by_columns, cut_by_rows = ("up",), "down"
    """As of Attention."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, E) -> (B, T, E)."""
        return self.down(functional.gelu(self.up(x)))


class Embedding(nn.Module):
    """
    Tokens as vectors, with positions added: "learned" ones, or "sinusoidal"; none where the blocks have "rotary" ones.

    Both are times sqrt(E), so that weights of the size that suits a head make vectors of size 1, and one matrix can
    serve as both (Vaswani, section 3.4).
    """

    positions: Tensor | None

    def __init__(
        self, vocabulary: int, context: int, width: int, dropout: float, positions: Positions = "learned"
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        if positions == "sinusoidal":
            self.register_buffer("positions", sinusoids(context, width) * width**-0.5, persistent=False)
        else:
            self.positions = nn.Parameter(torch.empty(context, width)) if positions == "learned" else None
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T) whole numbers -> (B, T, E)."""
        x = self.tokens(x)  # (B, T, E)
        if self.positions is not None:
            fits(x.shape[1], len(self.positions))
            x = x + self.positions[: x.shape[1]]
        return self.dropout(x * x.shape[-1] ** 0.5)


def fits(tokens: int, context: int) -> None:
    """Refuse more tokens than a model has places for, with a SpecError."""
    if tokens > context:
        raise SpecError(
            f"{tokens} tokens are more than the {context} that this model reads at once: give it the first, "
            f"x[:, :{context}], or make the model for longer samples"
        )


def sinusoids(context: int, width: int) -> Tensor:
    """
    A vector (T, E) for each position: sines and cosines, of wavelengths from 2 pi to 2 pi * BASE tokens.

    Vaswani, section 3.5: a position that is so much further is the same rotation of it wherever it stands.
    """
    angles = torch.arange(context)[:, None] * BASE ** (-torch.arange(0, width, 2) / width)  # (T, E / 2)
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(1)[:, :width]


def initialise(model: nn.Module, depth: int) -> None:
    """
    Gaussian matrices that keep the size of the signal, biases 0; smaller where blocks add to what is there.

    Variance 1 / inputs. 2 * depth layers add up; 1 / sqrt(2 * depth) keeps the variance of their sum that of one
    (Radford and others, Language Models are Unsupervised Multitask Learners, 2019). One epoch of pydocs at lr 3e-3
    ends at 2.44 bits a byte, and from GPT-2's own start, 0.02 for all, at 2.98 (validation, means of two seeds).
    """
    for name, p in model.named_parameters():
        if p.ndim >= 2:
            adds = name.endswith(("attention.out.weight", "cross.out.weight", "mlp.down.weight"))
            nn.init.normal_(p, 0, (p.shape[1] * (2 * depth if adds else 1)) ** -0.5)
        elif name.endswith("bias"):
            nn.init.zeros_(p)
