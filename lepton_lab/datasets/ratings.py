"""
Ratings that are made: users and items have factors, which are known.

Legend of the shape comments: U users, I items, K factors, N ratings.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from .base import Data, holds, shuffled

if TYPE_CHECKING:
    from torch import Tensor

USERS, ITEMS = 300, 100
MEAN, STARS = 3.5, (1.0, 5.0)
EAGER = 2.0  # how much more likely a user takes what he likes, in units of chance's own spread

Count = Annotated[int, Field(ge=10)]
Factors = Annotated[int, Field(ge=1)]


@holds((2,), 0, USERS, tasks=("recommendation", "regression"), made=True)
def ratings(
    root: Path,
    seed: int,
    *,
    users: Count = USERS,
    items: Count = ITEMS,
    each: Annotated[int, Field(ge=1)] = 25,
    factors: Factors = 3,
    noise: Annotated[float, Field(ge=0)] = 0.3,
) -> Data:
    """
    Made: stars that 300 users gave to 25 of 100 items each, by factors that `known_factors` tells (recommendation).

    A user likes an item by the product of both one's factors. He takes, rather than others, items that he likes, and
    gives 3.5 stars, and more or fewer as he likes it, with some noise, rounded to 1, 2, ..., 5. The parts are dealt at
    random: 80 % is for training, 10 % for validation, 10 % for testing.

    Data: x int64 (N, 2), user and item by number; y float32 (N,), stars. task='recommendation' asks what a user takes,
    task='regression' for the stars.

    Parameters
    ----------
    root, seed
        As of every data set; nothing is read.
    users, items
        How many there are, at least 10.
    each
        Items that a user takes, at least 1, and at most half of all.
    factors
        Numbers that make up a taste, at least 1.
    noise
        Standard deviation of what is no taste, in stars, 0 or more; rounding adds 0.29.
    """
    import torch

    of_users, of_items = known_factors(seed, users, items, factors)
    liked = of_users @ of_items.T  # (U, I), of variance 1
    draw = torch.Generator().manual_seed(seed + 1)
    # The largest of utilities with Gumbel noise: drawn without putting back (W. Kool et al., 2019, section 2).
    chance = -(-torch.rand(users, items, generator=draw).clamp(1e-9).log()).log()
    taken = (EAGER * liked + chance).topk(min(each, items // 2)).indices  # (U, each)
    x = torch.stack([torch.arange(users)[:, None].expand_as(taken), taken], -1).reshape(-1, 2)
    stars = MEAN + liked[x[:, 0], x[:, 1]] + noise * torch.randn(len(x), generator=draw)
    y = stars.round().clamp(*STARS)
    train, val, test = ((x[part], y[part]) for part in shuffled(len(x), seed, 0.1, 0.1))
    return Data(train, val, test, shape=(2,), classes=[], vocabulary=max(users, items))


def known_factors(seed: int, users: int = USERS, items: int = ITEMS, factors: int = 3) -> tuple[Tensor, Tensor]:
    """Tastes of the users (U, K) and what the items are (I, K), of which `ratings` of that seed are made."""
    import torch

    draw = torch.Generator().manual_seed(seed)
    of_users, of_items = (torch.randn(count, factors, generator=draw) for count in (users, items))
    return of_users / factors**0.5, of_items
