"""
Texts changed in training: tokens left out, or with another in their place.

Legend of the shape comments: B samples, T tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from .base import augments
from .texts import labelled

if TYPE_CHECKING:
    from torch import Tensor

    from .draws import Draws

Pair = tuple["Tensor", "Tensor"]
Chance = Annotated[float, Field(ge=0, le=0.9)]
PAD = 0  # what fills up a text


def _labelled(shape: tuple[int, ...], classes: int, vocabulary: int, **options: object) -> str:
    other = "" if len(shape) == 1 else f"takes texts (N, T), and samples are of shape {shape}"
    return labelled(shape, classes, vocabulary) or other


@augments("tokens", refuse=_labelled)
def drop_tokens(x: Tensor, y: Tensor, draws: Draws, *, chance: Chance = 0.1) -> Pair:
    """
    Texts of which some tokens, drawn anew each epoch, are left out; the others close up, and 0 fills the end.

    A text that would lose all of them keeps its first. Source: J. Wei and K. Zou, EDA, 2019, random deletion.

    Parameters
    ----------
    chance
        Of each token, that it is left out, from 0 to 0.9.
    """
    kept = ~draws.chance(chance, x.shape[1]) & (x != PAD)  # (B, T)
    kept[:, 0] |= ~kept.any(1)
    order = (~kept).to(x.dtype).argsort(dim=1, stable=True)
    return x.where(kept, PAD).gather(1, order), y


@augments("tokens", refuse=_labelled)
def swap_tokens(x: Tensor, y: Tensor, draws: Draws, *, chance: Chance = 0.1) -> Pair:
    """
    Texts of which some neighbours, drawn anew each epoch, have changed places.

    Pairs begin at even or at odd places, as is drawn for a text; none has padding in it. Source: J. Wei and K. Zou,
    EDA, 2019, random swap, here of neighbours.

    Parameters
    ----------
    chance
        Of each pair of neighbours, that they change places, from 0 to 0.9.
    """
    import torch

    long = x.shape[1]
    place = torch.arange(long, device=x.device)
    first = place - (place + draws.integers(0, 2, 1)) % 2  # (B, T): where the pair of a place begins
    other = 2 * first + 1 - place
    swapped = draws.chance(chance, long + 1).gather(1, first + 1) & (first >= 0) & (first + 1 < long)
    there = x.gather(1, other.clamp(0, long - 1))
    return there.where(swapped & (x != PAD) & (there != PAD), x), y
