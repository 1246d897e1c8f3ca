"""
Samples that noise flows to: an auto-encoder's loss, and that of the field which carries noise to its latent numbers.

Legend of the shape comments: B samples, D latent numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from .base import OwnLoss, Task
from .denoising import beside, drawn, gaussian
from .seeing import labelled

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ..datasets import Data
    from ..pictures import Picture


class FlowMatching(Task):
    """
    Latent flow matching: samples as a few numbers and back, and the velocity at which noise becomes such numbers.

    Each loss is a curve of its own: `loss_restoring`, half the squared error of what comes back, and `loss_spread`, how
    far the latent numbers are from a normal distribution, are the two parts of a variational auto-encoder's (Kingma and
    Welling, 2014); `loss_flow` is half the squared error of the velocity (Lipman and others, Flow Matching for
    Generative Modeling, 2023, equation 23). The model is called with x (B, ...), noise for its encoder and for its
    flow, (B, latent) each, and times from 0 to 1 (B,), and gives a dict as `lepton_lab.models.flow` does.

    Parameters
    ----------
    latent
        Numbers that a sample becomes, 1 or more.
    labels
        Whether the model is told the label of each sample (B,), too, so that it can be asked for one of a class.
    """

    answers = "samples"
    output = "made"
    nests = True
    everywhere = True
    table_models = False

    def __init__(
        self,
        data: Data,
        loss: OwnLoss | None = None,
        *,
        latent: Annotated[int, Field(ge=1)] = 16,
        labels: bool = False,
    ) -> None:
        super().__init__(data, loss)
        self.latent, self.told = latent, labelled(data, labels)

    @classmethod
    def refuse(cls, shape: tuple[int, ...], classes: int, vocabulary: int) -> str:
        """Tokens, which are no numbers that a flow could pass through."""
        return "needs samples that are numbers, and these are tokens" if vocabulary else ""

    def prepare(self, batch: Any, generator: torch.Generator) -> Any:
        """Samples, the noise for encoder and flow, times, and where the model is told them labels."""
        x = batch[0] if isinstance(batch, (tuple, list)) else batch
        few = x.new_empty(len(x), self.latent)
        told = x, gaussian(few, generator), gaussian(few, generator), drawn(len(x), x, generator).flatten()
        return (*told, batch[1]) if self.told else told

    def inputs(self, batch: Any) -> Any:
        """All of it."""
        return batch

    def loss(self, outputs: Any, batch: Any) -> Any:
        """The three, each as a sum over what a sample has of numbers, and a mean over samples."""
        if self.given is not None:
            return self.given(outputs, batch)
        mean, log_variance = outputs["mean"], outputs["log_variance"]
        return {
            "restoring": squares(outputs["restored"], batch[0]) / 2,
            "spread": (mean.square() + log_variance.exp() - 1 - log_variance).flatten(1).sum(1).mean() / 2,
            "flow": squares(outputs["velocity"], outputs["right"]) / 2,
        }

    def scores(self, outputs: Any) -> None:
        """Nothing that goes with one sample."""
        return None

    def made(self, parts: Any, batch: Any) -> tuple[Any, Any] | None:
        """What noise became, and as many real samples: compared as sets, by the Fréchet distance or your own."""
        return parts["made"], batch[0]

    def picture(self, x: Any, y: Any, output: Any) -> Picture:
        """What noise became, beside a real sample and what came back of it."""
        parts = {"made": output["made"], "real": y[0], "restored": output["restored"]}
        return beside({name: part[0] for name, part in parts.items()}, self.data)


def squares(one: Tensor, other: Tensor) -> Tensor:
    """Squared differences, summed over a sample's numbers, as a mean over samples."""
    return (one - other).square().flatten(1).sum(1).mean()
