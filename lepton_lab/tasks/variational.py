"""
Samples that are made again from their class and a few numbers, and so new ones of each class.

Legend of the shape comments: B samples, Z latent numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from ..objectives import Criterion
from ..pictures import Picture
from .base import OwnLoss, Paired
from .criteria import Unaligned
from .denoising import beside

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ..datasets import Data


class Variational(Paired):
    """
    A conditional variational autoencoder: x is made again of its class and a few latent numbers, by the absolute error.

    The model is called with x (B, ...), classes (B,) and noise (B, Z), and gives x again, and mean and log variance of
    the latent numbers (B, Z) each. To the error is added how far these are from a standard normal distribution
    (Kullback-Leibler divergence), summed over them. `loss_error` and `loss_divergence` are curves of both. Source: D.
    Kingma and M. Welling, Auto-Encoding Variational Bayes, 2013, appendix B.

    Parameters
    ----------
    data, loss
        As of every task, see `lepton_lab.Task`; a loss compares the three outputs with x.
    latent
        Z, as the model has it.
    divergence
        Weight of the divergence, 0 or more: the less, the more of a recording is in its latent numbers, and the less
        is left for the class.
    """

    plain = False
    nests = True
    table_models = False
    everywhere = True

    def __init__(
        self,
        data: Data,
        loss: OwnLoss | None = None,
        *,
        latent: Annotated[int, Field(ge=1, le=256)] = 8,
        divergence: Annotated[float, Field(ge=0)] = 0.01,
    ) -> None:
        super().__init__(data, loss)
        self.latent, self.weights = latent, {"divergence": divergence}

    @classmethod
    def refuse(cls, shape: tuple[int, ...], classes: int, vocabulary: int) -> str:
        """Needs numbers with a class each."""
        return "" if classes and not vocabulary else "needs samples of numbers with a class each, and these are none"

    def prepare(self, batch: Any, generator: torch.Generator) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
        """X, its class and noise; and x."""
        import torch

        x, y = batch
        noise = torch.randn((len(x), self.latent), generator=generator, device=x.device, dtype=x.dtype)
        return (x, y, noise), x

    def criterion(self, total: Callable[[Tensor], Tensor] | None = None) -> Criterion:
        """The loss; outputs and x can't be compared one by one."""
        criterion = Unaligned(self.given or self.usual(), None, total)
        criterion.weights = self.weights
        return criterion

    def usual(self) -> OwnLoss:
        """The error and the divergence."""
        return error_and_divergence

    def picture(self, x: Any, y: Any, output: Any) -> Picture:
        """What was given, and what was made of it."""
        return beside({"given": y[0], "made again": output[0][0]}, self.data)


def error_and_divergence(output: tuple[Tensor, Tensor, Tensor], x: Tensor) -> dict[str, Tensor]:
    """The absolute error of x that was made again, and the divergence of latent numbers of a mean and log variance."""
    again, mean, spread = output
    divergence = (mean.square() + spread.exp() - 1 - spread).sum(1) / 2  # (B,)
    return {"error": (again - x).abs().mean(), "divergence": divergence.mean()}
