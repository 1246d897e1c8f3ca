"""
What the transforms of pictures share: targets that lie over the pixels follow, and values stay in their range.

Legend of the shape comments: B samples, C channels, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from ..losses import IGNORED

if TYPE_CHECKING:
    from torch import Tensor


class Move(Protocol):
    """A way to move pixels: planes (B, C, H, W) -> the same shape, alike for each channel."""

    def __call__(self, planes: Tensor, fill: float = 0.0, exact: bool = False) -> Tensor:
        """
        Move the planes.

        `fill` stands where no pixel comes from; an `exact` move makes no values that were not there.
        """


def together(x: Tensor, y: Tensor, move: Move) -> tuple[Tensor, Tensor]:
    """
    Pictures moved, and with them targets that have a value for each pixel: labels (B, H, W), or pictures (B, C, H, W).

    A label that comes from outside of the picture is one that the loss leaves out.
    """
    if y.dim() < 3 or y.shape[-2:] != x.shape[-2:]:
        return move(x), y
    planes = y if y.dim() == 4 else y[:, None]
    if planes.is_floating_point():
        moved = move(planes)
    else:
        moved = move(planes.float(), fill=IGNORED, exact=True).round().to(y.dtype)
    return move(x), moved.view_as(y)


def within(x: Tensor, changed: Tensor) -> Tensor:
    """Changed pictures (B, C, H, W) in the range of pixels, 0 to 1, or where x goes beyond it in that of its sample."""
    low = x.amin((1, 2, 3), keepdim=True).clamp(max=0.0)
    high = x.amax((1, 2, 3), keepdim=True).clamp(min=1.0)
    return changed.clamp(low, high)


def each(values: Tensor) -> Tensor:
    """One number a sample, (B,), as it goes with its pixels: (B, 1, 1, 1)."""
    return values[:, None, None, None]


def grey(x: Tensor) -> Tensor:
    """Brightness (B, 1, H, W) of pictures, of three channels as ITU-R BT.601 weighs red, green and blue."""
    if x.shape[1] != 3:
        return x.mean(1, keepdim=True)
    return (x * x.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)


def chosen(which: Tensor, changed: Callable[[], Tensor], x: Tensor) -> Tensor:
    """Changed pictures where `which` (B,) says so."""
    return changed().where(each(which), x)
