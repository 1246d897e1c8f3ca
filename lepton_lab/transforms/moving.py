"""
Pictures whose pixels move: mirrored, cropped, turned, scaled and shifted.

Targets with a value for each pixel follow. Legend of the shape comments: B samples, C channels, H x W pixels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from .base import augments
from .planes import each, together

if TYPE_CHECKING:
    from torch import Tensor

    from .draws import Draws

Fill = Literal["zero", "reflect"]


@augments("pictures")
def flip(
    x: Tensor,
    y: Tensor,
    draws: Draws,
    *,
    probability: Annotated[float, Field(ge=0, le=1)] = 0.5,
    axis: Literal["horizontal", "vertical"] = "horizontal",
    alternate: bool = False,
) -> tuple[Tensor, Tensor]:
    """
    Mirror pictures, left to right.

    Parameters
    ----------
    probability
        How likely a picture is mirrored, from 0 to 1.
    axis
        "horizontal" swaps left and right, "vertical" top and bottom.
    alternate
        Mirror a picture in every other epoch, in place of by chance: half of them, drawn by the seed, begin. So each is
        seen both ways in two epochs (K. Jordan, 94% on CIFAR-10 in 3.29 seconds on a single GPU, 2024, 3.6).
    """
    which = draws.lasting().chance(0.5) ^ (draws.epoch % 2 == 1) if alternate else draws.chance(probability)
    side = -1 if axis == "horizontal" else -2

    def move(planes: Tensor, fill: float = 0.0, exact: bool = False) -> Tensor:
        return planes.flip(side).where(each(which), planes)

    return together(x, y, move)


def _fits(shape: tuple[int, ...], classes: int, vocabulary: int, **options: Any) -> str:
    padding, least = options.get("padding", 4), min(shape[1:])
    if options.get("fill") != "reflect" or padding < least:
        return ""
    return f"fill='reflect' needs a padding below the {least} pixels of a side, and it is {padding}"


@augments("pictures", refuse=_fits)
def crop(
    x: Tensor,
    y: Tensor,
    draws: Draws,
    *,
    padding: Annotated[int, Field(ge=0, le=64)] = 4,
    fill: Fill = "zero",
) -> tuple[Tensor, Tensor]:
    """
    Pad pictures on all sides, and cut one of the old size out at a random place: a shift by whole pixels.

    Source: K. He et al., Deep residual learning for image recognition, CVPR 2016, 4.2 (padding 4, for CIFAR-10).

    Parameters
    ----------
    padding
        Pixels on each side, from 0 to 64; the largest shift.
    fill
        What they are: "zero" (black), or "reflect", the picture mirrored at its edge.
    """
    import torch
    from torch.nn import functional

    if not padding:
        return x, y
    rows, columns = draws.integers(0, 2 * padding + 1, 2).unbind(1)  # (B,) each
    samples = torch.arange(len(x), device=x.device)

    mirrors, sides = fill == "reflect", (padding,) * 4

    def move(planes: Tensor, fill: float = 0.0, exact: bool = False) -> Tensor:
        wide = functional.pad(planes, sides, "reflect") if mirrors else functional.pad(planes, sides, value=fill)
        # A view of all shifts, (B, C, rows, columns, H, W), of which each sample takes one.
        windows = wide.unfold(2, planes.shape[2], 1).unfold(3, planes.shape[3], 1)
        return windows[samples, :, rows, columns]

    return together(x, y, move)


@augments("pictures")
def rotate(
    x: Tensor,
    y: Tensor,
    draws: Draws,
    *,
    degrees: Annotated[float, Field(ge=0, le=180)] = 15.0,
    fill: Fill = "zero",
) -> tuple[Tensor, Tensor]:
    """
    Turn pictures about their centre, by an angle that is drawn evenly from both directions.

    Parameters
    ----------
    degrees
        The largest angle, from 0 to 180.
    fill
        What comes in at the corners: "zero" (black), or "reflect", the picture mirrored at its edge.
    """
    if not degrees:
        return x, y
    angle = draws.uniform(low=-degrees, high=degrees).deg2rad()
    return warped(x, y, turned(angle, x), fill)


@augments("pictures")
def scale(
    x: Tensor,
    y: Tensor,
    draws: Draws,
    *,
    amount: Annotated[float, Field(ge=0, lt=1)] = 0.1,
    fill: Fill = "zero",
) -> tuple[Tensor, Tensor]:
    """
    Make what pictures show larger or smaller, about their centre.

    Parameters
    ----------
    amount
        How much, from 0 to below 1: sizes are drawn evenly from 1 - amount to 1 + amount of the old one.
    fill
        What comes in at the sides: "zero" (black), or "reflect", the picture mirrored at its edge.
    """
    if not amount:
        return x, y
    size = draws.uniform(low=1 - amount, high=1 + amount)
    return warped(x, y, matrix(x, across=1 / size, down=1 / size), fill)


@augments("pictures")
def translate(
    x: Tensor,
    y: Tensor,
    draws: Draws,
    *,
    fraction: Annotated[float, Field(ge=0, le=1)] = 0.1,
    fill: Fill = "zero",
) -> tuple[Tensor, Tensor]:
    """
    Shift pictures along both axes, by parts of a pixel too.

    Parameters
    ----------
    fraction
        The largest shift, as a fraction of a side, from 0 to 1.
    fill
        What comes in at the sides: "zero" (black), or "reflect", the picture mirrored at its edge.
    """
    if not fraction:
        return x, y
    right, down = draws.uniform(2, low=-2 * fraction, high=2 * fraction).unbind(1)  # a side is 2 long
    return warped(x, y, matrix(x, right=right, lower=down), fill)


def matrix(
    x: Tensor,
    across: Tensor | float = 1.0,
    slant: Tensor | float = 0.0,
    right: Tensor | float = 0.0,
    lean: Tensor | float = 0.0,
    down: Tensor | float = 1.0,
    lower: Tensor | float = 0.0,
) -> Tensor:
    """
    Where each pixel comes from, (B, 2, 3): rows (across, slant, right) and (lean, down, lower), each a number or (B,).

    In torch's coordinates, in which a picture is from -1 to 1 along each axis.
    """
    import torch

    parts = (across, slant, right, lean, down, lower)
    return torch.stack([x.new_zeros(len(x)) + part for part in parts], -1).view(-1, 2, 3)


def turned(angle: Tensor, x: Tensor) -> Tensor:
    """The matrix (B, 2, 3) of a turn by angles (B,) in radians, of pictures that need not be square."""
    high, wide = x.shape[-2:]
    cosine, sine = angle.cos(), angle.sin()
    return matrix(x, across=cosine, slant=-sine * (high / wide), lean=sine * (wide / high), down=cosine)


def warped(x: Tensor, y: Tensor, where: Tensor, fill: Fill = "zero") -> tuple[Tensor, Tensor]:
    """Pictures (B, C, H, W), and targets over them, whose pixels come from elsewhere: a matrix (B, 2, 3) a sample."""
    from torch.nn import functional

    outside = "zeros" if fill == "zero" else "reflection"

    def move(planes: Tensor, fill: float = 0.0, exact: bool = False) -> Tensor:
        grid = functional.affine_grid(where, list(planes.shape), align_corners=False).to(planes.dtype)
        mode = "nearest" if exact else "bilinear"
        if outside == "zeros" and fill:  # what comes from outside is 0 for torch
            return functional.grid_sample(planes - fill, grid, mode, outside, align_corners=False) + fill
        return functional.grid_sample(planes, grid, mode, outside, align_corners=False)

    return together(x, y, move)
