"""
Features of sounds: spectra on the mel scale, and cepstra, as Kaldi computes them.

Legend of the shape comments: N sounds, T samples of one, F frames, W samples of a frame, M bands.
"""

from __future__ import annotations

import dataclasses
import math
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from ..errors import SpecError
from ..spectra import FREQUENCIES, HOP, SIZE, magnitudes, stretched
from .base import once

if TYPE_CHECKING:
    from torch import Tensor

    from ..datasets import Data

EMPHASIS = 0.97  # of a sample, what is taken off the next one
LOWEST = 20.0  # Hz, where the first band begins
LEAST = 1.1920929e-07  # of a band's power, of which there is a logarithm: float32's epsilon, as in Kaldi
LIFTER = 22.0  # Kaldi's, which makes cepstra about as large as one another
LOUD = 0.1  # root mean square of what `spectrum` looks at
QUIET = 3e-3  # part of the largest power (-25 dB) below which the ends of a sound are silence
TOGETHER = 2**18  # samples that are transformed at once: in the caches, three times as fast as all together

Bands = Annotated[int, Field(ge=4, le=256)]
Samples = Annotated[int, Field(ge=16, le=4096)]
Coefficients = Annotated[int, Field(ge=2, le=128)]


def _frames(shape: tuple[int, ...], window: int, hop: int) -> int:
    return 1 + (shape[0] - window) // hop if shape and shape[0] >= window else 0


def _short(shape: tuple[int, ...], classes: int, vocabulary: int, *, window: int, **_: Any) -> str:
    """Why sounds can't be cut into frames."""
    if len(shape) != 1:
        return f"takes sounds (N, T), and these are of shape {shape}"
    return "" if shape[0] >= window else f"window={window}: is longer than a sound, which has {shape[0]} samples"


def _pictures(
    shape: tuple[int, ...], classes: int, vocabulary: int, *, bands: int = 40, window: int = 200, hop: int = 80
) -> tuple[tuple[int, ...], int, int]:
    return (1, _frames(shape, window, hop), bands), classes, vocabulary


def _aligned(
    shape: tuple[int, ...], classes: int, vocabulary: int, *, frames: int = 48
) -> tuple[tuple[int, ...], int, int]:
    return (1, frames, FREQUENCIES), classes, vocabulary


def _cepstra(
    shape: tuple[int, ...],
    classes: int,
    vocabulary: int,
    *,
    coefficients: int = 13,
    bands: int = 23,
    window: int = 200,
    hop: int = 80,
) -> tuple[tuple[int, ...], int, int]:
    return (1, _frames(shape, window, hop), coefficients), classes, vocabulary


@once("sound", sees=_pictures, refuse=lambda *sample, window=200, **_: _short(*sample, window=window), fits=True)
def mel(data: Data, seed: int, *, bands: Bands = 40, window: Samples = 200, hop: Samples = 80) -> Data:
    """
    Sounds as pictures of their spectra: how loud, in logarithms, each band of the mel scale is over time.

    Those of Kaldi's `compute-fbank-feats` without dither: frames lose their mean, get a pre-emphasis of 0.97 and
    Povey's window; bands are triangles on the scale of S. Stevens et al., 1937, 1127 ln(1 + f / 700), from 20 Hz to
    half the sample rate. Pictures are (N, 1, frames, bands), standardised by mean and deviation of the training part.

    Parameters
    ----------
    bands
        Bands of the mel scale, from 4 to 256.
    window
        Samples of a frame, from 16 to 4,096: 200 are 25 ms at 8,000 a second, 400 at 16,000.
    hop
        Samples from one frame's beginning to the next, from 16 to 4,096: 80 are 10 ms at 8,000 a second.

    Raises
    ------
    SpecError
        If a window is longer than a sound, or sounds are not all of one length.
    """
    return _over(data, lambda x: log_mel(x, data.sample_rate, bands, window, hop), "mel")


@once("sound", sees=_cepstra, refuse=lambda *sample, window=200, **_: _short(*sample, window=window), fits=True)
def mfcc(
    data: Data,
    seed: int,
    *,
    coefficients: Coefficients = 13,
    bands: Bands = 23,
    window: Samples = 200,
    hop: Samples = 80,
) -> Data:
    """
    Sounds as mel-frequency cepstra: a cosine transform of `mel`'s bands over time, of which the first are kept.

    Those of Kaldi's `compute-mfcc-feats` without dither and energy: an orthonormal DCT-II (S. Davis and P. Mermelstein,
    1980), and a lifter of 22. Pictures are (N, 1, frames, coefficients), standardised as of `mel`.

    Parameters
    ----------
    coefficients
        Cepstra that are kept, from 2 to 128, and at most as many as there are bands.
    bands, window, hop
        As of `mel`.

    Raises
    ------
    SpecError
        If there are more coefficients than bands, a window is longer than a sound, or sounds differ in length.
    """
    if coefficients > bands:
        raise SpecError(f"transforms='mfcc': coefficients={coefficients}: must be at most bands={bands}")
    return _over(data, lambda x: cepstra(x, data.sample_rate, coefficients, bands, window, hop), "mfcc")


@once("sound", sees=_aligned, refuse=lambda *sample, **_: _short(*sample, window=SIZE), fits=True)
def spectrum(data: Data, seed: int, *, frames: Annotated[int, Field(ge=16, le=1024)] = 48) -> Data:
    """
    Sounds as pictures of their whole spectrum, all of one length and loudness: what a synthesiser is to say.

    Silence at both ends is cut off, the rest is made as loud as 0.1 (root mean square), and the logarithms of the
    magnitudes of its spectrum, 129 frequencies of 256 samples each 64, are stretched evenly over `frames`. So words
    line up, and how long each was, in seconds, is in `about`. Pictures are (N, 1, frames, 129), standardised as of
    `mel`; `lepton_lab.spectra.griffin_lim` makes sounds of them.

    Parameters
    ----------
    frames
        Frames of each picture, from 16 to 1,024.

    Raises
    ------
    SpecError
        If sounds are shorter than 256 samples, or not all of one length.
    """
    import torch

    def features(sounds: Tensor) -> Tensor:
        return torch.stack([stretched(magnitudes(spoken(sound)[None])[0], frames) for sound in sounds])

    about: dict[str, Any] = {name: dict(known) for name, known in data.about.items()}
    for name, part in (("train", data.train), ("val", data.val), ("test", data.test)):
        if (pair := stacked(part, "spectrum")) is not None:
            about.setdefault(name, {})["seconds"] = [len(spoken(sound)) / data.sample_rate for sound in pair[0]]
    return dataclasses.replace(_over(data, features, "spectrum"), about=about)


def spoken(sound: Tensor) -> Tensor:
    """What is heard of a sound (T,), without the silence before and after it, as loud as LOUD; SIZE samples or more."""
    power = sound.float().unfold(0, HOP, HOP).square().mean(1)  # of each HOP samples
    heard = (power > QUIET * power.max()).nonzero()
    begin, end = (int(heard[0]) * HOP, (int(heard[-1]) + 1) * HOP) if len(heard) else (0, len(sound))
    part = sound[max(0, min(begin, len(sound) - SIZE)) : max(end, begin + SIZE)].float()
    return part * (LOUD / part.square().mean().sqrt().clamp(min=1e-6))


def log_mel(x: Tensor, rate: int, bands: int = 40, window: int = 200, hop: int = 80) -> Tensor:
    """Logarithms of power in mel bands, (N, F, M), of sounds (N, T) at `rate` samples a second, on their device."""
    import torch

    size = 2 ** math.ceil(math.log2(window))  # of the Fourier transform, as Kaldi rounds it
    frames = x.unfold(1, window, hop)  # (N, F, W)
    frames = frames - frames.mean(2, keepdim=True)
    before = torch.cat([frames[..., :1], frames[..., :-1]], 2)
    shape, weights = (part.to(x.device) for part in (povey(window), triangles(bands, size, rate)))
    power = torch.fft.rfft((frames - EMPHASIS * before) * shape, size).abs().square()  # (N, F, size / 2 + 1)
    return (power @ weights).clamp(min=LEAST).log()


def cepstra(x: Tensor, rate: int, coefficients: int = 13, bands: int = 23, window: int = 200, hop: int = 80) -> Tensor:
    """Mel-frequency cepstra (N, F, coefficients) of sounds (N, T)."""
    import torch

    places, orders = torch.arange(bands) + 0.5, torch.arange(coefficients)
    cosines = (torch.pi / bands * places[:, None] * orders).cos() * (2 / bands) ** 0.5  # (M, coefficients)
    cosines[:, 0] = (1 / bands) ** 0.5
    lifter = 1 + LIFTER / 2 * (torch.pi * orders / LIFTER).sin()
    return log_mel(x, rate, bands, window, hop) @ (cosines * lifter).to(x.device)


@lru_cache(maxsize=8)
def povey(window: int) -> Tensor:
    """Povey's window, (W,): Hann's to the power of 0.85, which is 0 at its ends. Source: Kaldi, feature-window.cc."""
    import torch

    return torch.hann_window(window, periodic=False, dtype=torch.float64).pow(0.85).float()


@lru_cache(maxsize=8)
def triangles(bands: int, size: int, rate: int) -> Tensor:
    """What each of `size` / 2 + 1 frequencies weighs in each band, whose edges are evenly spaced in mel: (.., M)."""
    import torch

    def scaled(hertz: Tensor) -> Tensor:
        return 1127 * (1 + hertz / 700).log()

    ends = scaled(torch.tensor([LOWEST, rate / 2], dtype=torch.float64))
    edges = torch.linspace(float(ends[0]), float(ends[1]), bands + 2, dtype=torch.float64)
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    at = scaled(torch.arange(size // 2 + 1, dtype=torch.float64) * rate / size)[:, None]
    weights = torch.minimum((at - left) / (centre - left), (right - at) / (right - centre)).clamp(min=0)
    weights[-1] = 0  # Kaldi leaves out half the sample rate itself
    return weights.float()


def _over(data: Data, features: Any, name: str) -> Data:
    """Data of pictures (N, 1, F, ...) in place of sounds, scaled by the training part's mean and deviation."""
    train, val, test = (_made(part, features, name) for part in (data.train, data.val, data.test))
    assert train is not None
    mean, std = float(train[0].mean()), max(float(train[0].std()), 1e-6)
    data = dataclasses.replace(data, train=train, val=val, test=test, shape=tuple(train[0].shape[1:]))
    return dataclasses.replace(data, mean=(mean,), std=(std,), unit=1, collate=None, lengths=None)


def _made(part: Any, features: Any, name: str) -> tuple[Tensor, Tensor] | None:
    import torch

    if (pair := stacked(part, name)) is None:
        return None
    x, y = pair
    some = x.float().split(max(1, TOGETHER // x.shape[1]))
    return torch.cat([features(sounds) for sounds in some])[:, None].contiguous(), y


def stacked(part: Any, name: str) -> tuple[Tensor, Tensor] | None:
    """Sounds (N, T) and targets of a split, read where they are not at hand; None of none."""
    import torch

    if part is None:
        return None
    if not isinstance(part, tuple):
        pairs = [part[place] for place in range(len(part))]
        sounds, targets = ([torch.as_tensor(value) for value in values] for values in zip(*pairs, strict=True))
        if len({len(sound) for sound in sounds}) > 1:
            raise SpecError(
                f"transforms={name!r}: sounds must all have as many samples; cut or fill them up where they are read"
            )
        part = torch.stack(sounds), torch.stack(targets)
    x, y = part
    return x, y
