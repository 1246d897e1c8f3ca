"""
Recurrent networks: a state that is carried from token to token.

Legend of the shape comments: B samples, T tokens, E width, G parts that a cell computes of a token (gates among them).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn

from .blocks import initialise


class RNN(nn.Module):
    """
    Tokens, rows of numbers, or rows of an image -> vectors -> layers that read from left to right -> scores.

    `embed`, `blocks` and `head` are all there is, in that order: a pipeline may cut between any two layers.

    Parameters
    ----------
    embed
        Samples -> (B, T, E).
    outputs
        Scores, K.
    cell
        Name of one of CELLS.
    width, depth
        E; layers, of which each reads what the one below it says.
    dropout
        Fraction left out of what each layer says, in training.
    bidirectional
        Whether half of each layer reads from right to left.
    reads
        What is scored, a name of READS: every place (B, T, K), or of the sample (B, K) the largest of each number over
        all places or the last state.
    """

    def __init__(
        self,
        embed: nn.Module,
        outputs: int,
        cell: str,
        width: int,
        depth: int,
        dropout: float = 0.0,
        bidirectional: bool = False,
        reads: str = "largest",
    ) -> None:
        super().__init__()
        self.embed = embed
        self.blocks = nn.Sequential(*(Layer(CELLS[cell], width, dropout, bidirectional) for _ in range(depth)))
        self.head = Head(width, outputs, reads)
        initialise(self, depth)
        for module in self.modules():
            if isinstance(module, Cell):
                for part in module.state.weight.chunk(module.parts):
                    nn.init.orthogonal_(part)  # a state neither fades nor swells on its own (Saxe, arXiv:1312.6120)

    def forward(self, x: Tensor) -> Tensor:
        """Samples -> (B, K), or (B, T, K) where every place is scored."""
        x = self.embed(x)  # (B, T, E)
        x = self.blocks(x)  # (B, T, E)
        return self.head(x)


class Layer(nn.Module):
    """A cell led over all tokens: from left to right, or one of half the width each way."""

    def __init__(self, cell: type[Cell], width: int, dropout: float, bidirectional: bool) -> None:
        super().__init__()
        half = width // 2 if bidirectional else width
        self.right = cell(width, half)
        self.left = cell(width, half) if bidirectional else None
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, E) -> (B, T, E)."""
        states = self.right(x)
        if self.left is not None:
            states = torch.cat([states, self.left(x.flip(1)).flip(1)], -1)
        return self.dropout(states)


class Cell(nn.Module):
    """
    One step: from what is given and the state before, the state after. Cells differ in `forget`, `step` and parts.

    Parameters
    ----------
    inputs, width
        Numbers of a token; of the state.
    """

    parts: ClassVar[int]
    """What is computed of a token and of a state, in widths of the state."""
    recurrent = True
    """Its layers lead into each other, so that none can be made narrower alone."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.given = nn.Linear(inputs, self.parts * width)
        self.state = nn.Linear(width, self.parts * width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, inputs) -> the state after each token, (B, T, width)."""
        given = self.given(x)  # (B, T, G * width): of all tokens at once, which no state is needed for
        h = torch.zeros_like(given[:, 0].chunk(self.parts, -1)[0])  # (B, width)
        memory, states = h, []
        for token in given.unbind(1):
            h, memory = self.step(token, self.state(h), h, memory)
            states.append(h)
        return torch.stack(states, 1)

    def step(self, given: Tensor, carried: Tensor, h: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """What a token gives and what the state carries on, (B, G * width) each -> the state and memory, (B, width)."""
        raise NotImplementedError


class Plain(Cell):
    """
    h' = tanh(W x + U h): all of the state is written anew at each token (Elman, Finding Structure in Time, 1990).

    Each step multiplies the gradient by U and by a slope of at most 1, so that it vanishes with the distance.
    """

    parts = 1

    def step(self, given: Tensor, carried: Tensor, h: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """As of every cell; it has no memory beside the state."""
        return torch.tanh(given + carried), memory


class GRU(Cell):
    """
    Two gates: how much of the state is replaced, and how much of it is looked at for that (Cho, arXiv:1406.1078).

    z = sigmoid(.), r = sigmoid(.), n = tanh(W x + r * (U h)), h' = (1 - z) n + z h. Where z is near 1 the state stays,
    and so does the gradient.
    """

    parts = 3

    def step(self, given: Tensor, carried: Tensor, h: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """As of every cell; it has no memory beside the state."""
        (r, z, n), (to_r, to_z, to_n) = given.chunk(3, -1), carried.chunk(3, -1)
        r, z = torch.sigmoid(r + to_r), torch.sigmoid(z + to_z)
        return torch.lerp(torch.tanh(n + r * to_n), h, z), memory


class LSTM(Cell):
    """
    A memory that is added to, and three gates: what is let in, what is forgotten, what is said.

    c' = f c + i tanh(.), h' = o tanh(c') (Hochreiter and Schmidhuber, Long Short-Term Memory, 1997; Gers added f). The
    forget gate gets 1 more, so that a fresh cell remembers (Jozefowicz and others, An Empirical Exploration of
    Recurrent Network Architectures, 2015).
    """

    parts = 4

    def step(self, given: Tensor, carried: Tensor, h: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """As of every cell."""
        i, f, new, o = (given + carried).chunk(4, -1)
        memory = torch.sigmoid(f + 1) * memory + torch.sigmoid(i) * torch.tanh(new)
        return torch.sigmoid(o) * torch.tanh(memory), memory


CELLS: dict[str, type[Cell]] = {"plain": Plain, "gru": GRU, "lstm": LSTM}


class Steps(nn.Module):
    """Numbers as steps in time: rows of an image with all their channels, or rows of numbers, mapped to vectors."""

    def __init__(self, features: int, width: int, dropout: float) -> None:
        super().__init__()
        self.project = nn.Linear(features, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) or (B, T, features) -> (B, T, E), where T is H."""
        if x.dim() == 4:
            x = x.transpose(1, 2).flatten(2)  # (B, H, C * W)
        return self.dropout(self.project(x))


READS: dict[str, Callable[[Tensor], Tensor]] = {
    "every": lambda x: x,
    "largest": lambda x: x.amax(1),
    "last": lambda x: x[:, -1],
}


class Head(nn.Module):
    """Scores of what is read of the last layer's states."""

    def __init__(self, width: int, outputs: int, reads: str) -> None:
        super().__init__()
        self.reads = reads
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, E) -> (B, T, K), or (B, K)."""
        return self.out(self.norm(READS[self.reads](x)))
