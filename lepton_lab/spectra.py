"""
Spectra of sounds over time, and a sound for a spectrum of which only the magnitude is known.

Legend of the shape comments: B sounds, T samples of one, N frames, F frequencies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

SIZE, HOP = 256, 64
"""Samples of a frame, and from one frame to the next: 32 and 8 ms at 8,000 a second."""
FREQUENCIES = SIZE // 2 + 1
LEAST = (
    1e-3  # magnitude of which there is a logarithm: what is below can't be heard beside a sound of the usual loudness
)
ROUNDS, MOMENTUM = 40, 0.99


def magnitudes(x: Tensor) -> Tensor:
    """Logarithms of magnitudes (B, N, F), N = 1 + T / HOP, of sounds (B, T)."""
    return _spectrum(x).abs().clamp(min=LEAST).log().transpose(1, 2)


def griffin_lim(logarithms: Tensor) -> Tensor:
    """
    Sounds (B, T), T = (N - 1) * HOP, whose magnitudes are near those of which these are the logarithms (B, N, F).

    What a spectrum lacks is its phase. It is guessed, a sound is made, and the phase of that sound's own spectrum is
    taken, again and again. Source: D. Griffin and J. Lim, Signal Estimation from Modified Short-Time Fourier
    Transform, 1984; with the momentum of N. Perraudin et al., A Fast Griffin-Lim Algorithm, 2013.
    """
    import torch

    size = logarithms.transpose(1, 2).exp()  # (B, F, N)
    generator = torch.Generator().manual_seed(0)
    phase = torch.polar(torch.ones(size.shape), 2 * torch.pi * torch.rand(size.shape, generator=generator))
    before = torch.zeros_like(phase)
    for _ in range(ROUNDS):
        spectrum = _spectrum(_sound(size * phase))
        ahead = spectrum + MOMENTUM / (1 + MOMENTUM) * (spectrum - before)
        phase, before = ahead / ahead.abs().clamp(min=1e-12), spectrum
    return _sound(size * phase)


def stretched(frames: Tensor, count: int) -> Tensor:
    """As many frames (count, F) as are asked for, evenly over what frames (N, F) last, interpolated linearly."""
    from torch.nn import functional

    return functional.interpolate(frames.T[None], size=count, mode="linear", align_corners=True)[0].T


def si_sdr(estimate: Tensor, reference: Tensor) -> Tensor:
    """
    How clean each sound (B, T) is, in dB, (B,): the power of what is right in it to that of the rest, at any loudness.

    Scale-invariant signal-to-distortion ratio, J. Le Roux et al., SDR - Half-baked or Well Done?, 2019.
    """
    import torch

    least = torch.finfo(estimate.dtype).eps
    scale = ((estimate * reference).sum(-1, keepdim=True) + least) / (reference.square().sum(-1, keepdim=True) + least)
    power, rest = (part.square().sum(-1) + least for part in (scale * reference, estimate - scale * reference))
    return 10 * (power / rest).log10()


def _spectrum(x: Tensor) -> Tensor:
    import torch

    return torch.stft(
        x, SIZE, HOP, window=torch.hann_window(SIZE), return_complex=True, pad_mode="constant"
    )  # (B, F, N)


def _sound(spectrum: Tensor) -> Tensor:
    import torch

    return torch.istft(spectrum, SIZE, HOP, window=torch.hann_window(SIZE))
