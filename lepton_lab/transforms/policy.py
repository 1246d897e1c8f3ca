"""
Pictures changed by operations that are drawn for each.

Legend of the shape comments: B samples, C channels, H x W pixels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from .base import augments
from .colours import blended
from .moving import matrix, turned, warped
from .planes import each, grey, within

if TYPE_CHECKING:
    from torch import Tensor

    from .draws import Draws

HIGHEST = 30
OPERATIONS: tuple[str, ...] = (
    "identity",
    "rotate",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
    "brightness",
    "color",
)
OPERATIONS += ("contrast", "sharpness", "posterize", "solarize", "auto_contrast", "equalize")
"""The paper's fourteen."""


@augments("pictures")
def rand_augment(
    x: Tensor,
    y: Tensor,
    draws: Draws,
    *,
    operations: Annotated[int, Field(ge=0, le=8)] = 2,
    magnitude: Annotated[float, Field(ge=0, le=HIGHEST)] = 9.0,
) -> tuple[Tensor, Tensor]:
    """
    Apply some operations to each picture, one after the other, all of one magnitude, in a direction that is drawn.

    Source: E. D. Cubuk et al., RandAugment: practical automated data augmentation with a reduced search space, NeurIPS
    2020, arXiv:1909.13719, with the ranges of AutoAugment (arXiv:1805.09501): identity, rotate, shear and translate
    along each axis, brightness, colour, contrast, sharpness, posterize, solarize, auto contrast, equalize.

    Parameters
    ----------
    operations
        How many, from 0 to 8.
    magnitude
        How strong each is, from 0 (those that have a strength do nothing) to 30.
    """
    for _ in range(operations):
        which = draws.integers(0, len(OPERATIONS))  # (B,)
        strength = draws.chance(0.5).to(x.dtype).mul(2).sub(1) * (magnitude / HIGHEST)  # -1 .. 1
        x, y = _moved(x, y, which, strength)
        x = _valued(x, which, strength)
    return x, y


def _is(which: Tensor, name: str) -> Tensor:
    return which == OPERATIONS.index(name)


def _moved(x: Tensor, y: Tensor, which: Tensor, strength: Tensor) -> tuple[Tensor, Tensor]:
    """Those pictures turned, sheared and shifted that drew it, by up to 30 degrees, 0.3 and 150 of 331 pixels."""

    def part(name: str, most: float) -> Tensor:
        return (strength * most).where(_is(which, name), 0.0)

    turn = turned(part("rotate", 30.0).deg2rad(), x)
    shift = 2 * 150 / 331  # a side is 2 long
    rest = matrix(
        x,
        slant=part("shear_x", 0.3),
        lean=part("shear_y", 0.3),
        right=part("translate_x", shift),
        lower=part("translate_y", shift),
    )
    still = matrix(x)
    moved, follows = warped(x, y, turn + rest - still)  # each sample has one of them
    if follows is not y:
        return moved, follows
    moves = which.new_zeros(()).bool()
    for name in ("rotate", "shear_x", "shear_y", "translate_x", "translate_y"):
        moves = moves | _is(which, name)
    return moved.where(each(moves & (strength != 0)), x), y


def _valued(x: Tensor, which: Tensor, strength: Tensor) -> Tensor:
    """Those pictures with other values that drew it; all are computed, so that nothing waits for the device."""
    factor, hard = each(1 + 0.9 * strength), each(strength.abs())
    low, high = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
    levels = 2.0 ** (8 - (4 * hard).round())  # 8 bits at 0, 4 at the most
    changed = {
        "brightness": x * factor,
        "color": blended(x, grey(x), factor),
        "contrast": blended(x, grey(x).mean((1, 2, 3), keepdim=True), factor),
        "sharpness": blended(x, _smooth(x), factor),
        "posterize": x.where(levels == 256, ((x * 255).round() / 256 * levels).floor() / levels * 256 / 255),
        "solarize": x.where(x <= 1 - hard, 1 - x),
        "auto_contrast": (x - low) / (high - low).where(high > low, 1.0),
        "equalize": _equalized(x),
    }
    result = x
    for name, pictures in changed.items():
        result = pictures.where(each(_is(which, name)), result)
    return within(x, result)


def _equalized(x: Tensor) -> Tensor:
    """Each channel with its 256 levels as even as they can be, as Pillow's `equalize` has it."""
    import torch

    levels = (x * 255).round().long().clamp(0, 255).flatten(2)  # (B, C, H W)
    counts = levels.new_zeros(*levels.shape[:2], 256).scatter_add_(2, levels, torch.ones_like(levels))
    last = counts.gather(2, levels.amax(2, keepdim=True))
    step = (levels.shape[2] - last) // 255  # (B, C, 1)
    table = (counts.cumsum(2) - counts + step // 2) // step.clamp(min=1)
    return x.where(step.unsqueeze(3) == 0, (table.clamp(max=255).gather(2, levels) / 255).to(x.dtype).view_as(x))


def _smooth(x: Tensor) -> Tensor:
    """Each pixel with its neighbours, weighed 5 to 1, as Pillow's SMOOTH has it; those at the edge stay."""
    from torch.nn import functional

    if min(x.shape[-2:]) < 3:
        return x
    inner = (9 * functional.avg_pool2d(x, 3, 1) + 4 * x[..., 1:-1, 1:-1]) / 13
    smooth = x.clone()
    smooth[..., 1:-1, 1:-1] = inner
    return smooth
