"""
An enhancer: how much of each frequency, at each moment, is signal.

Legend of the shape comments: B samples, T samples of a sound, N frames, F frequencies, C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..spectra import FREQUENCIES, HOP, LEAST, SIZE

KERNEL = 5  # frames


class Enhancer(nn.Module):
    """
    Sound -> spectrum -> a mask from 0 to 1 over it -> sound, with the phase that the noisy one has.

    A mask over the time-frequency plane, after Y. Wang, A. Narayanan and D. Wang, On Training Targets for Supervised
    Speech Separation, 2014. The loss is of the sound that comes out, and so the transform and its inverse are layers
    without weights.

    Parameters
    ----------
    width
        C.
    depth
        Layers between the first and the last, whose dilation is 2, 4, 8 and so on.
    """

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.transform = Transform()
        self.first = nn.Conv1d(FREQUENCIES, width, KERNEL, padding="same")
        self.middle = nn.ModuleList(
            nn.Conv1d(width, width, KERNEL, padding="same", dilation=2**i) for i in range(1, depth + 1)
        )
        self.last = nn.Conv1d(width, FREQUENCIES, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T) -> (B, T)."""
        level = ((x * x).mean(1, keepdim=True) + LEAST**4).sqrt()  # the same is said, however loud it is
        real, imaginary = self.transform(x / level)  # (B, F, N) each
        seen = (real * real + imaginary * imaginary + LEAST**2).log() / 2
        hidden = functional.relu(self.first(seen))  # (B, C, N)
        for layer in self.middle:
            hidden = hidden + functional.relu(layer(hidden))
        mask = self.last(hidden).sigmoid()  # (B, F, N)
        return level * self.transform.inverse(mask * real, mask * imaginary)[:, : x.shape[1]]


class Transform(nn.Module):
    """
    The short-time Fourier transform as a convolution whose kernels are windowed cosines and sines, and its inverse.

    torch.stft would do, but is no layer that other formats know.
    """

    kernels: Tensor
    weights: Tensor

    def __init__(self) -> None:
        super().__init__()
        window = torch.hann_window(SIZE, dtype=torch.float64)
        angles = 2 * torch.pi / SIZE * torch.arange(FREQUENCIES)[:, None] * torch.arange(SIZE)  # (F, SIZE)
        waves = torch.cat([angles.cos(), -angles.sin()]) * window  # (2 F, SIZE)
        twice = torch.full((FREQUENCIES,), 2.0)  # all frequencies but the ends stand for their mirror images too
        twice[0] = twice[-1] = 1.0
        # Windows overlap: the squares of those that a sample lies under sum up to the same at every sample.
        overlap = window.square().sum() / HOP
        self.register_buffer("kernels", waves[:, None].float(), persistent=False)
        self.register_buffer("weights", (twice.repeat(2) / (SIZE * overlap))[:, None].float(), persistent=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T) -> the real and the imaginary part, (B, F, N) each; silence before and after the sound counts too."""
        both = functional.conv1d(functional.pad(x, (SIZE, SIZE))[:, None], self.kernels, stride=HOP)  # (B, 2 F, N)
        return both[:, :FREQUENCIES], both[:, FREQUENCIES:]

    def inverse(self, real: Tensor, imaginary: Tensor) -> Tensor:
        """(B, F, N) each -> (B, T) and up to HOP samples more, or less."""
        parts = torch.cat([real, imaginary], 1) * self.weights
        return functional.conv_transpose1d(parts, self.kernels, stride=HOP)[:, 0, SIZE:]
