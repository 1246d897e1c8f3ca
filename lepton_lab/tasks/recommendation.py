"""
What a user takes.

Legend of the shape comments: N samples in all, B of a batch, M drawn items, U users.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from ..errors import SpecError
from ..pictures import Bars, Picture, words
from .base import OwnLoss, Paired

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from ..datasets import Data

Count = Annotated[int, Field(ge=1)]
Some = Annotated[int, Field(ge=1, le=10_000)]  # since memory goes with them: a batch scores as many times its samples


class Recommendation(Paired):
    """
    The item that a user took is to score above others that are drawn: x (N, 2) are users and items, by their numbers.

    The model is called with users (B,) and items (B, 1 + M), the one that was taken first, and scores them (B, 1 + M);
    compared by cross entropy. In training any items are drawn that the user did not take in training, so that nothing
    tells which ones were held out; in evaluations such as he took in no split, each once where there are enough. y is
    not looked at. For ratings take task='regression'. The accuracy is the hit rate at 1.

    Parameters
    ----------
    data, loss
        As of every task, see `lepton_lab.Task`; an own loss compares scores with the place of what was taken, 0.
    negatives
        Items that are drawn for each one that was taken in training, from 1 to 10,000.
    candidates
        Items that are drawn for each one in evaluations, at least 1, and no more than anybody left. With the usual 49,
        a model that knows nothing has a hit rate of 0.1 at k=5; literature has 99, and k=10 (He and others, Neural
        Collaborative Filtering, 2017).
    """

    plain = False
    nests = True
    places = True
    metrics = ("ndcg",)
    answers = "classes"
    table_models = False
    opens = ((1, 1),)
    everywhere = True

    def __init__(
        self, data: Data, loss: OwnLoss | None = None, *, negatives: Some = 49, candidates: Count = 49
    ) -> None:
        import torch

        super().__init__(data, loss)
        train, *others = (_pairs(part) for part in (data.train, data.val, data.test) if part is not None)
        every = torch.cat([train, *others])
        users, items = (every.max(0).values + 1).tolist()
        self._untaken = Untaken(train, users, items), Untaken(every, users, items)
        self.negatives, self.candidates = negatives, min(candidates, int(self._untaken[1].left.max()))
        self.data = dataclasses.replace(data, classes=[str(i) for i in range(1 + self.candidates)])

    @classmethod
    def refuse(cls, shape: tuple[int, ...], classes: int, vocabulary: int) -> str:
        """Needs pairs of numbers."""
        return "" if vocabulary and shape == (2,) else "needs whole numbers (N, 2) as x, each a user and an item"

    def prepare(self, batch: Any, generator: torch.Generator) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """Users, the item of each with those that are drawn, and the place of the former."""
        users, items = batch[0].unbind(1)
        return self._beside(users, items, self._untaken[0].drawn(users, self.negatives, generator))

    def prepare_evaluation(self, batch: Any, generator: torch.Generator) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """The same, of items that the user took in no split."""
        users, items = batch[0].unbind(1)
        return self._beside(users, items, self._untaken[1].drawn(users, self.candidates, generator, once=True))

    def _beside(self, users: Tensor, items: Tensor, others: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
        import torch

        return (users, torch.cat([items[:, None], others], 1)), torch.zeros_like(users)

    def labels(self, model: nn.Module) -> list[str]:
        """None: scores are ratings of the items that were asked for."""
        return []

    def usual(self) -> OwnLoss:
        """Cross entropy over the items."""
        from torch.nn import functional

        return functional.cross_entropy

    def picture(self, x: Any, y: Any, output: Any) -> Picture:
        """The user, and how the item that was taken is rated among the drawn ones."""
        (users, items), chances = x, output[0].float().softmax(0).tolist()
        order = sorted(range(len(chances)), key=lambda i: -chances[i])
        place = order.index(0) + 1
        bars = {int(items[0, i]): (f"item {int(items[0, i])}", chances[i], i == 0) for i in order}  # some drawn twice
        return {
            "user": words(int(users[0])),
            "took": words(f"item {int(items[0, 0])}"),
            "its place": words(f"{place} of {len(order)}", place == 1),
            "ratings": Bars([*bars.values()]),
        }


class Untaken:
    """
    The items that each user did not take.

    Parameters
    ----------
    pairs
        What was taken, (N, 2): users and items.
    users, items
        How many there are.
    """

    def __init__(self, pairs: Tensor, users: int, items: int) -> None:
        import torch

        pairs = pairs.unique(dim=0)  # in order of users, then of items
        who, what = pairs.unbind(1)
        taken = torch.bincount(who, minlength=users)  # (U,)
        self.before = taken.cumsum(0) - taken  # pairs of the users before
        self.left = items - taken
        if not self.left.all():
            raise SpecError(
                f"task='recommendation': user {int(self.left.argmin())} took all {items} items, so that there is none "
                "to draw beside one; leave out who took all"
            )
        self.step = items + 1
        lower = what - (torch.arange(len(what)) - self.before[who])  # how many below each taken item were left
        self.keys = who * self.step + lower

    def drawn(self, users: Tensor, count: int, generator: torch.Generator, once: bool = False) -> Tensor:
        """So many items for each of some users (B,), any that he left alike by chance: (B, count)."""
        import torch

        left = self.left.to(users.device)[users, None]

        def draw() -> Tensor:
            shape = (len(users), count)
            return (torch.rand(shape, generator=generator, device=users.device, dtype=torch.float64) * left).long()

        places = draw()
        if once:
            again = left >= count
            while True:
                places = places.sort(1).values
                same = torch.zeros_like(places, dtype=torch.bool)
                same[:, 1:] = (places[:, 1:] == places[:, :-1]) & again
                if not same.any():
                    break
                places = draw().where(same, places)
        return self.item(users, places)

    def item(self, users: Tensor, places: Tensor) -> Tensor:
        """The items at some places among those that each user left, (B, M), counted from 0."""
        import torch

        keys, before = self.keys.to(users.device), self.before.to(users.device)
        lower = torch.searchsorted(keys, users[:, None] * self.step + places, right=True)
        return places + lower - before[users, None]


def _pairs(part: Any) -> Tensor:
    """Users and items of a split, (N, 2)."""
    import torch

    if isinstance(part, tuple):
        return part[0].long()
    return torch.stack([torch.as_tensor(part[place][0]) for place in range(len(part))]).long()
