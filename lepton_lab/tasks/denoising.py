"""
Samples without labels that are learned through noise: taken from them, or made into them step by step.

Legend of the shape comments: B samples, N of them to be made.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from ..batches import call
from ..pictures import Curves, Picture, words
from .base import OwnLoss, Paired
from .seeing import given

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from ..datasets import Data
    from ..objectives import Criterion

BETAS = 1e-4, 0.02  # variances of the first and the last of DDPM's 1,000 steps
STEPS = 1000
FEW = 20  # steps in which an evaluation makes samples


class Denoising(Paired):
    """
    What noise was laid over is found again: outputs and x (B, ...), by the squared error; y is not looked at.

    Parameters
    ----------
    data, loss
        As of every task, see `lepton_lab.Task`; a loss compares outputs with x.
    noise
        Standard deviation of the strongest noise, above 0, in units of x as the model sees it; each sample's is drawn
        evenly between 0 and this.
    """

    plain = False
    answers = "numbers"
    table_models = False
    everywhere = True

    def __init__(self, data: Data, loss: OwnLoss | None = None, *, noise: Annotated[float, Field(gt=0)] = 0.5) -> None:
        super().__init__(dataclasses.replace(data, classes=[]), loss)
        self.noise = noise

    def prepare(self, batch: Any, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Noise over x; and x."""
        x = batch[0]
        strength = self.noise * drawn(len(x), x, generator)
        return x + strength * gaussian(x, generator), x

    def picture(self, x: Any, y: Any, output: Any) -> Picture:
        """What was given, what was made of it, and what it was before the noise."""
        return beside({"with noise": x[0], "restored": output[0].reshape(y[0].shape), "clean": y[0]}, self.data)


class Diffusion(Paired):
    """
    The noise in x after a drawn number of steps of diffusion, by the squared error; y is not looked at.

    Samples are then made by taking it away step by step: `sample`. Variances of the steps go up in a straight line, and
    the model is called with x after so many steps (B, ...) and their number (B,), counted from 0. Source: J. Ho et al.,
    Denoising Diffusion Probabilistic Models, 2020 (DDPM), equations 11 and 14.

    Parameters
    ----------
    data, loss
        As of every task, see `lepton_lab.Task`; a loss compares outputs with the noise.
    timesteps
        Steps of diffusion, at least 2; the fewer, the more noise each adds, so that they come to as much.
    """

    plain = False
    nests = True
    makes = True
    answers = "noise"
    table_models = False
    everywhere = True

    def __init__(
        self, data: Data, loss: OwnLoss | None = None, *, timesteps: Annotated[int, Field(ge=2)] = STEPS
    ) -> None:
        super().__init__(dataclasses.replace(data, classes=[]), loss)
        self.timesteps = timesteps

    def criterion(self, total: Callable[[Tensor], Tensor] | None = None) -> Criterion:
        """The loss over noise, which is no sample that metrics could take for one."""
        criterion = super().criterion(total)
        criterion.kind = self.answers
        return criterion

    def prepare(self, batch: Any, generator: torch.Generator) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """What x is after a number of steps, the number, and the noise."""
        import torch

        x = batch[0]
        step = torch.randint(self.timesteps, (len(x),), generator=generator, device=x.device)
        left = kept(self.timesteps).to(x.device, x.dtype)[step].view(-1, *[1] * (x.dim() - 1))
        noise = gaussian(x, generator)
        return (left.sqrt() * x + (1 - left).sqrt() * noise, step), noise

    def picture(self, x: Any, y: Any, output: Any) -> Picture:
        """What was given, and what is left without the noise that was found, and without the noise that is in it."""
        noisy, step = x
        restored, clean = (self._without(noise.view_as(noisy), noisy, step)[0] for noise in (output, y))
        return {
            **beside({"with noise": noisy[0], "restored": restored, "clean": clean}, self.data),
            "steps of diffusion": words(int(step[0]) + 1),
        }

    def sampled(self, model: Any, x: Any, y: Any) -> tuple[Any, Any]:
        """
        Samples that are made of the noise y (B, ...), in 20 steps, and those that it was laid over.

        J. Song et al., Denoising Diffusion Implicit Models, 2021, equation 12 with sigma 0, whose steps are so much
        longer than DDPM's that a figure of them is at hand after each epoch; `sample` takes every step.
        """
        import torch

        steps = torch.linspace(self.timesteps - 1, 0, min(FEW, self.timesteps)).long().tolist()
        made, left = y, kept(self.timesteps).to(y.device, y.dtype)
        for step, after in zip(steps, [*steps[1:], None], strict=True):
            at = torch.full((len(y),), step, device=y.device)
            noise = call(model, (made, at)).view_as(made)
            made = self._without(noise, made, at)
            if after is not None:
                made = left[after].sqrt() * made + (1 - left[after]).sqrt() * noise
        return made, self._without(y, *x)

    def _without(self, noise: Tensor, noisy: Tensor, step: Tensor) -> Tensor:
        """Samples (B, ...) without noise that was laid over them in so many steps (B,)."""
        left = kept(self.timesteps).to(noisy.device, noisy.dtype)[step].view(-1, *[1] * (noisy.dim() - 1))
        return (noisy - (1 - left).sqrt() * noise) / left.sqrt()

    @staticmethod
    def sample(model: nn.Module, shape: tuple[int, ...], seed: int = 0, timesteps: int = STEPS) -> Tensor:
        """
        Make samples with a trained model, such as `run.model()`.

        Parameters
        ----------
        shape
            Of all that is made, (N, ...); values are scaled as the model saw them in training.
        timesteps
            As in training.
        """
        import torch

        generator = torch.Generator().manual_seed(seed)
        beta, left = variances(timesteps), kept(timesteps)
        x = torch.randn(shape, generator=generator)
        with torch.no_grad():
            for step in reversed(range(timesteps)):
                noise = model(x, torch.full((len(x),), step))
                x = (x - beta[step] / (1 - left[step]).sqrt() * noise) / (1 - beta[step]).sqrt()
                if step:
                    x = x + beta[step].sqrt() * torch.randn(shape, generator=generator)
        return x


def variances(timesteps: int) -> Tensor:
    """Variance of the noise that each step adds, (timesteps,)."""
    import torch

    first, last = (beta * STEPS / timesteps for beta in BETAS)
    return torch.linspace(first, min(last, 0.999), timesteps)


def kept(timesteps: int) -> Tensor:
    """What is left of a sample's variance after each step, (timesteps,)."""
    return (1 - variances(timesteps)).cumprod(0)


def gaussian(x: Tensor, generator: torch.Generator) -> Tensor:
    """Numbers of a standard normal distribution, as many as x has."""
    import torch

    return torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)


def drawn(count: int, x: Tensor, generator: torch.Generator) -> Tensor:
    """A number from 0 to 1 for each of so many samples of x, (count, 1, ...)."""
    import torch

    shape = (count, *[1] * (x.dim() - 1))
    return torch.rand(shape, generator=generator, device=x.device, dtype=x.dtype)


def beside(parts: dict[str, Tensor], data: Data) -> Picture:
    """One sample in several states: pictures and sounds side by side, curves over one another."""
    views = {name: given(part, data) for name, part in parts.items()}
    if all(isinstance(view, Curves) for view in views.values()):
        return {"": Curves({name: part.reshape(-1) for name, part in parts.items()})}
    return {name: view for name, view in views.items() if view}
