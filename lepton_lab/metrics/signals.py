"""How clean signals are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..spectra import si_sdr
from .base import Metric
from .classes import ratio
from .regression import numbers

if TYPE_CHECKING:
    from torch import Tensor


class SiSdr(Metric):
    """
    The power of the right signal in what is said of it to that of the rest, in decibels, whatever the loudness.

    Scale-invariant signal-to-distortion ratio, the mean over samples: Le Roux and others, ICASSP 2019.
    """

    title = "SI-SDR"
    short = "si-sdr"
    axis = "SI-SDR (dB)"
    form = ".2f"
    wide = True
    kinds = ("numbers", "noise")

    def update(self, output: Any, target: Any) -> Tensor | None:
        """The sum over signals (B, T), or (B, C, T), and how many there are."""
        import torch

        if (signals := numbers(output, target)) is None or target.dim() < 2:
            return None
        each = si_sdr(*(signal.reshape(-1, target.shape[-1]) for signal in signals))
        return torch.stack([each.sum(), each.new_tensor(len(each))])

    def finish(self, sums: Tensor) -> float:
        """The mean."""
        return ratio(*sums.tolist())
