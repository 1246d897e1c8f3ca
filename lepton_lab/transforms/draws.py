"""
Random numbers that depend on seed, epoch and sample alone, so that any cut of the work draws the same.

Legend of the shape comments: B samples.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

GOLDEN = -0x61C8864680B583EB  # 2**64 / golden ratio, odd, as int64: the step of SplitMix64
FIRST, SECOND = -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15  # its two factors

LASTING = -1  # in the place of an epoch


class Draws:
    """
    What a transform draws its numbers from, for each sample of a batch by itself.

    A sample's numbers are SplitMix64 (Steele, Lea and Flood, Fast splittable pseudorandom number generators, OOPSLA
    2014) from a state that is mixed of seed, epoch, sample and transform. They are computed on the device of the
    samples, without waiting for it. A transform that draws twice gets other numbers the second time.

    Parameters
    ----------
    seed, epoch
        Of the run, and the one at hand, from 0.
    samples
        Places of the samples in the training set, int64 (B,), on the device of the batch.
    number
        Of the transform in its list, so that none changes what another draws.
    classes
        How many the data tell apart.
    """

    def __init__(self, seed: int, epoch: int, samples: Tensor, number: int = 0, classes: int = 0) -> None:
        self.epoch, self.samples, self.classes = epoch, samples, classes
        self._root = seed, number
        self._state = _mixed(samples * GOLDEN + _hashed(seed, epoch, number))  # (B,)
        self._calls = 0

    def lasting(self) -> Draws:
        """Others, which are the same for a sample in each epoch."""
        seed, number = self._root
        return Draws(seed, LASTING, self.samples, number, self.classes)

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Numbers from `low` to below `high`, float32 (B, *shape)."""
        import torch

        numbers = (self._bits(*shape) >> 40).bitwise_and_(0xFFFFFF).to(torch.float32)
        return numbers.mul_((high - low) * 2.0**-24).add_(low)

    def normal(self, *shape: int) -> Tensor:
        """Numbers of mean 0 and variance 1, float32 (B, *shape), by the method of Box and Muller (1958)."""
        radius = (1 - self.uniform(*shape)).log_().mul_(-2).sqrt_()
        return radius.mul_(self.uniform(*shape, high=2 * math.pi).cos_())

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        """Whole numbers from `low` to below `high`, int64 (B, *shape)."""
        return (self.uniform(*shape) * (high - low)).long().clamp_(max=high - low - 1) + low

    def chance(self, probability: float, *shape: int) -> Tensor:
        """Whether something of this probability happens, bool (B, *shape)."""
        return self.uniform(*shape) < probability

    def partners(self) -> Tensor:
        """For each sample of the batch another one, or itself where it draws so: its place in the batch, int64 (B,)."""
        order = self._bits().argsort()
        places = order.new_empty(len(order))
        places[order] = order.roll(1)
        return places

    def _bits(self, *shape: int) -> Tensor:
        """64 random bits each, int64 (B, *shape)."""
        import torch

        self._calls += 1  # each call has a stream of its own, whatever the sizes of those before it
        stream = _mixed(self._state + _signed(self._calls * GOLDEN))
        steps = torch.arange(math.prod(shape), device=stream.device) * GOLDEN
        return _mixed(stream[:, None] + steps).view(-1, *shape)


def _hashed(*numbers: int) -> int:
    """Whole numbers as one of 64 bits with a sign, alike in every process."""
    state = 0
    for number in numbers:
        state = (state + number + 1) * 0x9E3779B97F4A7C15 % 2**64
        state ^= state >> 29
    return _signed(state)


def _signed(number: int) -> int:
    """A whole number as one of 64 bits with a sign."""
    return (number + 2**63) % 2**64 - 2**63


def _mixed(state: Tensor) -> Tensor:
    """SplitMix64's finalizer, in place; shifts are made logical by masks."""
    state ^= (state >> 30) & 0x3FFFFFFFF
    state *= FIRST
    state ^= (state >> 27) & 0x1FFFFFFFFF
    state *= SECOND
    state ^= (state >> 31) & 0x1FFFFFFFF
    return state
