"""
Pictures whose values change, and whose pixels stay where they are: colour, noise, squares that are blotted out.

Legend of the shape comments: B samples, C channels, H x W pixels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from .base import augments
from .planes import each, grey, within

if TYPE_CHECKING:
    from torch import Tensor

    from .draws import Draws

Strength = Annotated[float, Field(ge=0, le=1)]


@augments("pictures")
def colour(
    x: Tensor,
    y: Tensor,
    draws: Draws,
    *,
    brightness: Strength = 0.2,
    contrast: Strength = 0.2,
    saturation: Strength = 0.2,
) -> tuple[Tensor, Tensor]:
    """
    Change brightness, contrast and saturation, in this order, each by a factor drawn evenly around 1.

    A factor f makes f x + (1 - f) z: of z = 0 the brightness changes, of the picture's mean grey the contrast, of each
    pixel's grey the saturation (P. Haeberli, Image processing by interpolation and extrapolation, 1994).

    Parameters
    ----------
    brightness, contrast, saturation
        The factor is drawn from 1 - this to 1 + this, from 0 to 1. Pictures that have not three channels have no
        saturation.
    """
    changed = x
    for strength, other in ((brightness, _black), (contrast, _mean), (saturation, grey)):
        if strength:
            factor = each(draws.uniform(low=1 - strength, high=1 + strength))
            changed = within(x, blended(changed, other(changed), factor))
    return changed, y


@augments("pictures")
def noise(
    x: Tensor, y: Tensor, draws: Draws, *, deviation: Annotated[float, Field(ge=0, le=1)] = 0.05
) -> tuple[Tensor, Tensor]:
    """
    Add normal noise to each pixel and channel.

    Parameters
    ----------
    deviation
        Its standard deviation, from 0 to 1, where white is 1.
    """
    return (within(x, x + deviation * draws.normal(*x.shape[1:])) if deviation else x), y


@augments("pictures")
def cutout(
    x: Tensor,
    y: Tensor,
    draws: Draws,
    *,
    size: Annotated[int, Field(ge=0, le=256)] = 8,
    probability: Annotated[float, Field(ge=0, le=1)] = 1.0,
) -> tuple[Tensor, Tensor]:
    """
    Blot a square out, whose centre may be any pixel, with the picture's mean colour.

    Source: T. DeVries and G. W. Taylor, Improved regularization of convolutional neural networks with cutout,
    arXiv:1708.04552; there it is the mean colour of all pictures.

    Parameters
    ----------
    size
        Its side in pixels, from 0 to 256; at the edge of a picture less of it is seen.
    probability
        How likely a picture has one, from 0 to 1.
    """
    if not size or not probability:
        return x, y
    square = box(x, draws, x.new_full((len(x),), size), x.new_full((len(x),), size))
    square = square & each(draws.chance(probability))
    return x.where(~square, x.mean((2, 3), keepdim=True)), y


def blended(x: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    """Pictures between others (a factor of 0) and themselves (of 1), or beyond."""
    return other + factor * (x - other)


def box(x: Tensor, draws: Draws, high: Tensor, wide: Tensor) -> Tensor:
    """Pixels in a box of some size (B,), whose centre is any pixel, bool (B, 1, H, W)."""
    rows, columns = x.shape[-2:]
    centre = draws.uniform(2)
    down = _along(rows, centre[:, 0], high)[:, None, :, None]
    across = _along(columns, centre[:, 1], wide)[:, None, None, :]
    return down & across


def _along(length: int, centre: Tensor, size: Tensor) -> Tensor:
    """Places along an axis that lie in a span of a size (B,) around a centre (B,) from 0 to 1, bool (B, length)."""
    import torch

    begin = (centre * length).floor() - (size / 2).floor()  # (B,)
    places = torch.arange(length, device=centre.device) - begin[:, None]
    return (places >= 0) & (places < size[:, None])


def _black(x: Tensor) -> Tensor:
    return x.new_zeros(())


def _mean(x: Tensor) -> Tensor:
    return grey(x).mean((1, 2, 3), keepdim=True)
