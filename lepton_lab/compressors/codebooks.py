"""Layers of few values: which of them each weight takes is found by k-means and stays, and the values are trained."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from .layers import Layer

ROUNDS = 40
"""Of k-means, which hardly changes any more after some ten."""


class Shared(nn.Module):
    """A layer whose weights, and biases, take few values: which of them each takes stays, and the values train."""

    def __init__(self, layer: Layer, count: int) -> None:
        super().__init__()
        self.books = nn.ModuleDict({name: Codebook(p, count) for name, p in layer.named_parameters()})
        self.free = [name for name, p in layer.named_parameters() if p.requires_grad]
        self.layer = layer.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """As the layer, with the values that its numbers take."""
        return functional_call(self.layer, {name: book() for name, book in self.books.items()}, (x,))

    def plain(self) -> nn.Module:
        """The layer, whose numbers are the values, rounded to bfloat16."""
        with torch.no_grad():
            for name, parameter in self.layer.named_parameters():
                parameter.copy_(self.books[name]().bfloat16())
                parameter.requires_grad_(name in self.free)
        return self.layer


class Codebook(nn.Module):
    """
    Few values for many numbers (Han and others, Deep Compression, arXiv:1510.00149); those that are 0 stay 0.

    A value is kept times the root of how many numbers take it, so that a step of training moves all of them together
    as far as it would move one number by itself, whatever the optimizer makes of the size of a gradient.
    """

    code: Tensor
    root: Tensor

    def __init__(self, numbers: nn.Parameter, count: int) -> None:
        super().__init__()
        nonzero = numbers.detach()[numbers != 0]
        values, places, takers = nearest(nonzero, count - bool(len(nonzero) < numbers.numel()))
        code = torch.zeros(numbers.shape, dtype=torch.int32)  # 0 stands for 0, and 1 for the first value
        code[numbers != 0] = places.int() + 1
        self.register_buffer("code", code)
        self.register_buffer("root", takers.clamp(min=1).sqrt().to(numbers.dtype))
        trained = numbers.requires_grad and len(values) > 0  # ranks can't share out the gradients of none
        self.values = nn.Parameter(values.to(numbers.dtype) * self.root, trained)

    def forward(self) -> Tensor:
        """The numbers, in the shape that they had."""
        values = functional.pad(self.values / self.root, (1, 0))
        return values.index_select(0, self.code.flatten()).view(self.code.shape)


def nearest(numbers: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """
    At most so many values for numbers (N,), which of them is nearest to each, and how many numbers each has.

    k-means from values that are evenly spaced below 0 and above it, with none between, where a mask has left nothing.
    So some are kept for the large numbers, few as these are (Deep Compression, section 3.2).
    """
    numbers = numbers.double()
    if not len(numbers):
        return numbers, numbers.long(), numbers
    sides = [side for side in (numbers[numbers < 0], numbers[numbers > 0]) if len(side)]
    shares = [count] if len(sides) == 1 else [count // 2, count - count // 2]
    values = torch.cat(
        [
            torch.linspace(float(side.min()), float(side.max()), n).double()
            for side, n in zip(sides, shares, strict=False)
        ]
    )
    for _ in range(ROUNDS):
        places = torch.bucketize(numbers, (values[1:] + values[:-1]) / 2)
        takers = places.bincount(minlength=len(values))
        values = (places.bincount(numbers, len(values)) / takers)[takers > 0]
    places = torch.bucketize(numbers, (values[1:] + values[:-1]) / 2)
    return values, places, places.bincount(minlength=len(values)).double()
