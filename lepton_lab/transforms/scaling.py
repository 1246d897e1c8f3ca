"""
Numbers brought to mean 0 and variance 1.

Legend of the shape comments: N samples, C channels, or features of a row.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..errors import SpecError
from .base import once

if TYPE_CHECKING:
    from torch import Tensor

    from ..datasets import Data

PORTION = 1024  # samples that are summed at once


@once("pictures", "table", "series", "sound", fits=True, scales=True)
def standardise(data: Data, seed: int) -> Data:
    """
    Bring x to mean 0 and variance 1, by the training samples: each column of a table, each channel of anything else.

    Samples stay as they are; mean and deviation are kept with the model, also in files of it, which take raw samples.
    What never changes is only centred.
    """
    import torch

    channels = 1 if data.sample_rate and len(data.shape) == 1 else data.shape[0]
    total, squares = torch.zeros(2, channels, dtype=torch.float64)
    count, dtype = 0, torch.float32
    for x in _portions(data.train):
        dtype = x.dtype
        if not _scales(dtype):
            raise SpecError(
                f"transforms='standardise': needs floats or pixels in uint8, and x are {dtype}; leave it out"
            )
        values = _by_channel(x, channels)  # (..., C)
        count, total = count + len(values), total + values.sum(0)
    mean = total / count
    for x in _portions(data.train):  # once more, since a difference of large squares would have few digits
        squares += (_by_channel(x, channels) - mean).square().sum(0)
    unit = 1 if dtype.is_floating_point else 255
    mean, std = mean / unit, (squares / count).sqrt() / unit
    std = std.where(std > 1e-12 * mean.abs().clamp(min=1e-12), 1.0)
    return dataclasses.replace(data, mean=tuple(mean.tolist()), std=tuple(std.tolist()), unit=unit)


def _portions(split: Any) -> Iterator[Tensor]:
    """All training samples, some at a time (B, ...)."""
    import torch

    if isinstance(split, tuple):
        yield from split[0].split(PORTION)
        return
    if not hasattr(split, "__getitem__"):
        raise SpecError("transforms='standardise': a stream would have to be read whole first; leave it out")
    for begin in range(0, len(split), PORTION):
        places = range(begin, min(begin + PORTION, len(split)))
        yield torch.stack([torch.as_tensor(split[place][0]) for place in places])


def _by_channel(x: Tensor, channels: int) -> Tensor:
    """Values with those that are scaled alike in a column, float64 (..., C)."""
    return x.double().reshape(len(x), channels, -1).movedim(1, 2).reshape(-1, channels)


def _scales(dtype: Any) -> bool:
    import torch

    return dtype.is_floating_point or dtype == torch.uint8
