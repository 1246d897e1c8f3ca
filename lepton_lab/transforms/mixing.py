"""
Pictures and rows that are mixed in pairs, and their labels with them.

A label becomes the chances of each class, which cross entropy takes for a target; accuracy in training counts the
class of the larger chance, which is always that of the sample itself. Legend of the shape comments: B samples, C
channels, H x W pixels, K classes.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from .base import augments
from .colours import box

if TYPE_CHECKING:
    from torch import Tensor

    from .draws import Draws

STEPS = 2048  # of the table of a beta distribution


@augments("pictures", "table", "sound", "series", mixes=True)
def mixup(
    x: Tensor, y: Tensor, draws: Draws, *, alpha: Annotated[float, Field(ge=0, le=4)] = 0.2
) -> tuple[Tensor, Tensor]:
    """
    Mix each sample, and its label, with another of its micro-batch.

    Source: H. Zhang et al., mixup: beyond empirical risk minimization, ICLR 2018. A sample's own weight is drawn from
    Beta(alpha, alpha), of both weights the larger. Who is mixed with whom depends on `accumulate`.

    Parameters
    ----------
    alpha
        From 0 (nothing is mixed) to 4; at 1 all weights are as likely.
    """
    if not alpha:
        return x, y
    weight, partners = _weights(draws, alpha), draws.partners()
    own = weight.view(-1, *[1] * (x.dim() - 1))
    return own * x + (1 - own) * x[partners], _mixed(y, partners, weight, draws.classes)


@augments("pictures", mixes=True)
def cutmix(
    x: Tensor, y: Tensor, draws: Draws, *, alpha: Annotated[float, Field(ge=0, le=4)] = 1.0
) -> tuple[Tensor, Tensor]:
    """
    Put a box of another picture of the micro-batch into each, and mix their labels by its area.

    Source: S. Yun et al., CutMix: regularization strategy to train strong classifiers with localizable features, ICCV
    2019. The area left is drawn from Beta(alpha, alpha), of both parts the larger. Who is mixed with whom depends on
    `accumulate`.

    Parameters
    ----------
    alpha
        From 0 (nothing is mixed) to 4; at 1 all areas are as likely.
    """
    if not alpha:
        return x, y
    side = (1 - _weights(draws, alpha)).sqrt()  # (B,), as a fraction of the picture's
    inside = box(x, draws, (side * x.shape[2]).floor(), (side * x.shape[3]).floor())
    partners = draws.partners()
    weight = 1 - inside.float().mean((1, 2, 3))  # less is cut at an edge
    return x[partners].where(inside, x), _mixed(y, partners, weight, draws.classes)


def _mixed(y: Tensor, partners: Tensor, weight: Tensor, classes: int) -> Tensor:
    """Chances of each class (B, K), of labels (B,), or of chances that were mixed before."""
    from torch.nn import functional

    chances = y if y.is_floating_point() else functional.one_hot(y.long(), classes).to(weight.dtype)
    return weight[:, None] * chances + (1 - weight[:, None]) * chances[partners]


def _weights(draws: Draws, alpha: float) -> Tensor:
    """The larger of two weights that are Beta(alpha, alpha), (B,), from its quantiles."""
    import torch

    table = torch.tensor(_quantiles(alpha), device=draws.samples.device)
    place = draws.uniform() * STEPS
    step = place.long().clamp_(max=STEPS - 1)
    return table[step].lerp(table[step + 1], place - step)


@lru_cache(maxsize=16)
def _quantiles(alpha: float) -> list[float]:
    """Of the larger weight, at 0, 1 / STEPS, ..., 1: by symmetry those of the distribution from its median on."""
    import numpy as np
    from scipy.special import betaincinv

    return np.asarray(betaincinv(alpha, alpha, 0.5 + 0.5 * np.arange(STEPS + 1) / STEPS), np.float64).tolist()
