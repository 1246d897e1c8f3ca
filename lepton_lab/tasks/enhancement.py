"""
Sounds in noise, which are to be heard without it.

Legend of the shape comments: B samples, T samples of a sound.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from ..pictures import Picture, words
from ..spectra import SIZE, si_sdr
from .base import OwnLoss, Paired
from .denoising import beside, drawn, gaussian

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ..datasets import Data

OTHERS = 3  # sounds of a babble, at most

Decibels = Annotated[float, Field(ge=-20, le=60)]


class Enhancement(Paired):
    """
    Sounds (B, T) are found again beneath a noise, by how clean they then are: the loss is minus the SI-SDR in dB.

    The noise is white, or a babble of other sounds of the batch; how loud it is beside the sound is drawn, and each
    sound begins at a drawn moment, what leaves at the end coming in at the beginning. y is not looked at. Source of
    the loss: J. Le Roux et al., SDR - Half-baked or Well Done?, 2019.

    Parameters
    ----------
    data, loss
        As of every task, see `lepton_lab.Task`; a loss compares outputs with the clean sounds.
    low, high
        The least and the largest ratio of the powers of sound and noise, in dB, from -20 to 60; drawn evenly between.
    babble
        Fraction of the samples whose noise is babble, from 0 to 1.
    """

    plain = False
    answers = "numbers"
    metrics = ("si_sdr",)
    table_models = False
    everywhere = True

    def __init__(
        self,
        data: Data,
        loss: OwnLoss | None = None,
        *,
        low: Decibels = -2.0,
        high: Decibels = 12.0,
        babble: Annotated[float, Field(ge=0, le=1)] = 0.5,
    ) -> None:
        super().__init__(dataclasses.replace(data, classes=[]), loss)
        self.low, self.high, self.babble = min(low, high), max(low, high), babble

    @classmethod
    def refuse(cls, shape: tuple[int, ...], classes: int, vocabulary: int) -> str:
        """Needs sounds."""
        fits = not vocabulary and len(shape) == 1 and shape[0] >= SIZE  # fewer numbers are a row of a table
        return "" if fits else f"needs sounds (N, T) of at least {SIZE} samples, and samples are of shape {shape}"

    def prepare(self, batch: Any, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Sounds in noise, and without."""
        import torch

        x = rolled(batch[0], generator)
        others = sum(rolled(x.roll(i, 0), generator) for i in range(1, min(OTHERS, len(x) - 1) + 1))
        noise = gaussian(x, generator)
        if len(x) > 1:
            noise = torch.where(drawn(len(x), x, generator) < self.babble, others, noise)
        return mixed(x, noise, self.low + (self.high - self.low) * drawn(len(x), x, generator)), x

    def usual(self) -> OwnLoss:
        """Minus the SI-SDR."""
        return noise_left

    def each(self, scores: Tensor, targets: Tensor) -> Tensor:
        """The loss of each sound, (B,); NaN of a user's own."""
        return super().each(scores, targets) if self.given is not None else -si_sdr(scores.float(), targets)

    def picture(self, x: Any, y: Any, output: Any) -> Picture:
        """What was given, what was made of it, the sound itself, and by how much that is cleaner."""
        gain = float(si_sdr(output.float(), y) - si_sdr(x, y))
        return {
            **beside({"with noise": x[0], "restored": output[0], "clean": y[0]}, self.data),
            "cleaner by": words(f"{gain:.1f} dB"),
        }


def noise_left(estimate: Tensor, reference: Tensor) -> Tensor:
    """Minus the mean SI-SDR of sounds (B, T), in dB."""
    return -si_sdr(estimate.float(), reference).mean()


def mixed(x: Tensor, noise: Tensor, decibels: Tensor | float) -> Tensor:
    """
    Sounds (B, T) with a noise (B, T) beneath, so many dB (B, 1) less loud than what is heard of the sound.

    Silence around a word doesn't count: its power is that over its own samples, those that are not 0.
    """
    heard, hum = (
        part.square().sum(1, keepdim=True) / part.ne(0).sum(1, keepdim=True).clamp(min=1) for part in (x, noise)
    )
    return x + noise * (heard / hum.clamp(min=1e-12) * 10 ** (-decibels / 10)).sqrt()


def rolled(x: Tensor, generator: torch.Generator) -> Tensor:
    """Sounds (B, T), each begun at a drawn moment."""
    import torch

    by = torch.randint(x.shape[1], (len(x), 1), generator=generator, device=x.device)
    return x.gather(1, (torch.arange(x.shape[1], device=x.device) - by) % x.shape[1])
