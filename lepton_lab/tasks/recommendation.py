"""
What a user takes.

Legend of the shape comments: N samples in all, B of a batch, M drawn items.
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


class Recommendation(Paired):
    """
    The item that a user took is to score above others that are drawn: x (N, 2) are users and items, by their numbers.

    The model is called with users (B,) and items (B, 1 + M), the one that was taken first, and scores them (B, 1 + M);
    compared by cross entropy. Drawn items may be others that the user took; y is not looked at. For ratings take
    task='regression'. The accuracy is the hit rate at 1.

    Parameters
    ----------
    data, loss
        As of every task, see `lepton_lab.Task`; an own loss compares scores with the place of what was taken, 0.
    negatives
        Items that are drawn for each one that was taken, at least 1, any of the others alike by chance. With the
        usual 49, a model that knows nothing has a hit rate of 0.1 at k=5.
    """

    plain = False
    nests = True
    metrics = ("ndcg",)
    answers = "classes"
    table_models = False
    opens = ((1, 1),)
    everywhere = True

    def __init__(self, data: Data, loss: OwnLoss | None = None, *, negatives: Annotated[int, Field(ge=1)] = 49) -> None:
        super().__init__(dataclasses.replace(data, classes=[str(i) for i in range(1 + negatives)]), loss)
        self.negatives = negatives
        self._items = 1 + max(_largest(part) for part in (data.train, data.val, data.test) if part is not None)
        if self._items < 2:
            raise SpecError("task='recommendation': there is one item, and so none to draw beside it")

    @classmethod
    def refuse(cls, shape: tuple[int, ...], classes: int, vocabulary: int) -> str:
        """Needs pairs of numbers."""
        return "" if vocabulary and shape == (2,) else "needs whole numbers (N, 2) as x, each a user and an item"

    def prepare(self, batch: Any, generator: torch.Generator) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """Users, the item of each with those that are drawn, and the place of the former."""
        import torch

        users, items = batch[0].unbind(1)
        shape = (len(users), self.negatives)
        others = torch.randint(self._items - 1, shape, generator=generator, device=items.device)
        others += others >= items[:, None]  # any but the one that was taken
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


def _largest(part: Any) -> int:
    """The largest item of a split."""
    if isinstance(part, tuple):
        return int(part[0][:, 1].max())
    return max(int(part[place][0][1]) for place in range(len(part)))
