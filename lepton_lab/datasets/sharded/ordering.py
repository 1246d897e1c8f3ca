"""The order of an epoch: random, and such that few blocks are in use at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def windowed(counts: Tensor, window: int, generator: torch.Generator) -> Iterator[Tensor]:
    """
    All samples once, chunk by chunk, of blocks that hold so many each.

    Blocks come in random order. The samples of the j-th get random times, even from j - window + 1 (or 0) to j + 1,
    and all samples come by their times: so at most `window` blocks are in use at any time, and one ends for each that
    begins. Only what is in use is held in memory.

    Parameters
    ----------
    counts
        Samples of each block, (blocks,).
    window
        Blocks that are in use.
    generator
        Draws all that is random.
    """
    import torch

    begins = counts.cumsum(0) - counts
    waiting, times = torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.float64)
    for place, block in enumerate(torch.randperm(len(counts), generator=generator).tolist()):
        count, first = int(counts[block]), max(place - window + 1, 0)
        drawn = torch.rand(count, generator=generator, dtype=torch.float64) * (place + 1 - first) + first
        waiting = torch.cat([waiting, torch.arange(count) + begins[block]])
        times = torch.cat([times, drawn])
        if place >= window - 1:  # no block to come has a time before the one at which it begins
            due = times < place - window + 2
            yield waiting[due][times[due].argsort()]
            waiting, times = waiting[~due], times[~due]
    yield waiting[times.argsort()]


def cut(chunks: Iterator[Tensor], size: int) -> Iterator[Tensor]:
    """The same samples, so many at a time; fewer at the end."""
    import torch

    rest = torch.empty(0, dtype=torch.int64)
    for chunk in chunks:
        rest = torch.cat([rest, chunk])
        *whole, rest = rest.split(size)
        if len(rest) == size:
            whole, rest = [*whole, rest], rest[:0]
        yield from whole
    if len(rest):
        yield rest
