"""
Two views of a sample are alike.

Legend of the shape comments: B samples, D numbers of an embedding.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from ..objectives import Criterion
from ..pictures import Picture, words
from .base import OwnLoss, Paired
from .criteria import Unaligned
from .denoising import beside, drawn, gaussian

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ..datasets import Data

SHIFTED = 8  # of a picture's side, the part that a view is shifted by at most


class Contrastive(Paired):
    """
    Two views of a sample are to be alike, and unlike those of the others in the batch: embeddings (2 B, D).

    Views of pictures (B, C, H, W) are shifted by up to an eighth and mirrored by chance; all get noise. A subclass of
    your own changes `view`. The loss is NT-Xent of T. Chen et al., A Simple Framework for Contrastive Learning, 2020,
    equation 1, a mean over samples; y is not looked at. The others of a sample are those that its rank computes in the
    same micro-batch: nothing is gathered, so that curves depend on `world` and `accumulate`.

    Parameters
    ----------
    data, loss
        As of every task, see `lepton_lab.Task`; an own loss compares embeddings (2 B, D), views of a sample side by
        side, with x (B, 2, ...).
    temperature
        What similarities, from -1 to 1, are divided by, above 0.
    noise
        Standard deviation of the noise in a view, 0 or more.
    """

    plain = False
    table_models = False
    everywhere = True
    exact = False

    def __init__(
        self,
        data: Data,
        loss: OwnLoss | None = None,
        *,
        temperature: Annotated[float, Field(gt=0)] = 0.5,
        noise: Annotated[float, Field(ge=0)] = 0.1,
    ) -> None:
        super().__init__(dataclasses.replace(data, classes=[]), loss)
        self.temperature, self.noise = temperature, noise

    def view(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """A view of each sample, (B, ...)."""
        if x.dim() == 4:
            for axis in (2, 3):
                x = shifted(x, axis, generator)
            x = x.flip(3).where(drawn(len(x), x, generator) < 0.5, x)
        return x + self.noise * gaussian(x, generator)

    def prepare(self, batch: Any, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Two views, (B, 2, ...)."""
        import torch

        views = torch.stack([self.view(batch[0], generator) for _ in range(2)], dim=1)
        return views, views

    def split(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Views one after the other, (2 B, ...)."""
        return batch[0].flatten(0, 1), batch[1]

    def criterion(self, total: Callable[[Tensor], Tensor] | None = None) -> Criterion:
        """The loss; views are no answers."""
        return Unaligned(self.given or self.usual(), None, total, self.each)

    def each(self, scores: Tensor, targets: Tensor) -> Tensor:
        """The loss of each sample, (B,), over both of its views; NaN of a user's own."""
        if self.given is not None:
            return super().each(scores[: len(targets)], targets)
        return self.nt_xent(scores, targets, "none").view(-1, 2).mean(1)

    def picture(self, x: Any, y: Any, output: Any) -> Picture:
        """Both views, and how alike their embeddings are."""
        from torch.nn import functional

        one, other = output.float().flatten(1)
        alike = float(functional.cosine_similarity(one, other, dim=0))
        return {**beside({"one view": y[0, 0], "another": y[0, 1]}, self.data), "cosine": words(f"{alike:.3f}")}

    def usual(self) -> OwnLoss:
        """NT-Xent."""
        return self.nt_xent

    def nt_xent(self, output: Tensor, views: Tensor, reduction: str = "mean") -> Tensor:
        """The loss of embeddings (2 B, D), the views of a sample side by side."""
        import torch
        from torch.nn import functional

        embedding = functional.normalize(output.flatten(1), dim=1)
        alike = embedding @ embedding.T / self.temperature  # (2 B, 2 B)
        places = torch.arange(len(alike), device=alike.device)
        alike = alike.masked_fill(places[:, None] == places, float("-inf"))
        return functional.cross_entropy(alike, places ^ 1, reduction=reduction)


def shifted(x: Tensor, axis: int, generator: torch.Generator) -> Tensor:
    """Pictures, each shifted along an axis by a drawn number of pixels, what leaves one side coming in at the other."""
    import torch

    side, most = x.shape[axis], x.shape[axis] // SHIFTED
    by = torch.randint(-most, most + 1, (len(x), 1), generator=generator, device=x.device)
    places = (torch.arange(side, device=x.device) - by) % side  # (B, side)
    shape = [len(x), 1, 1, 1]
    shape[axis] = side
    return x.gather(axis, places.view(shape).expand_as(x))
