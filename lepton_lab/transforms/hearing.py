"""
Sounds and their spectra, changed in training.

Legend of the shape comments: B samples, T samples of a sound, F frames, M bands.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from .base import augments

if TYPE_CHECKING:
    from torch import Tensor

    from .draws import Draws

Pair = tuple["Tensor", "Tensor"]


def _channel(shape: tuple[int, ...], classes: int, vocabulary: int, **options: object) -> str:
    """Why samples are neither sounds nor pictures of their spectra."""
    if len(shape) == 3 and shape[0] != 1:
        return f"takes pictures of spectra, (1, frames, bands), and samples are of shape {shape}"
    return f"takes sounds (N, T), and samples are of shape {shape}" if len(shape) == 2 else ""


@augments("sound", refuse=_channel)
def white_noise(
    x: Tensor,
    y: Tensor,
    draws: Draws,
    *,
    low: Annotated[float, Field(ge=-20, le=60)] = 10.0,
    high: Annotated[float, Field(ge=-20, le=60)] = 30.0,
) -> Pair:
    """
    White noise beneath each sound, at a ratio of signal to noise that is drawn for it.

    Parameters
    ----------
    low, high
        The least and the largest ratio of the powers, in dB, from -20 to 60.
    """
    ratio = draws.uniform(1, low=min(low, high), high=max(low, high))  # (B, 1), dB
    noise = draws.normal(x.shape[1]).to(x.dtype)
    loud = x.square().mean(1, keepdim=True) / noise.square().mean(1, keepdim=True)
    return x + noise * (loud * 10 ** (-ratio / 10)).sqrt().to(x.dtype), y


@augments("sound", "spectra", refuse=_channel)
def time_shift(x: Tensor, y: Tensor, draws: Draws, *, most: Annotated[float, Field(ge=0, le=0.5)] = 0.1) -> Pair:
    """
    Each sound, or picture of its spectrum, begins earlier or later by a time that is drawn for it.

    What leaves at one end is lost, and silence comes in at the other: zeros, and of a spectrum the least that it has.

    Parameters
    ----------
    most
        The longest shift, as a part of the whole, from 0 to 0.5.
    """
    import torch

    long = _long(x)
    moved = (draws.uniform(1, low=-most, high=most) * long).round().long()  # (B, 1)
    source = torch.arange(long, device=x.device) - moved  # (B, long)
    return _taken(x, source.clamp(0, long - 1)).where(_along((source >= 0) & (source < long), x), _silence(x)), y


@augments("sound", "spectra", refuse=_channel)
def speed(
    x: Tensor,
    y: Tensor,
    draws: Draws,
    *,
    slowest: Annotated[float, Field(ge=0.5, le=1)] = 0.9,
    fastest: Annotated[float, Field(ge=1, le=2)] = 1.1,
) -> Pair:
    """
    Each sound faster or slower by a factor that is drawn for it, with its pitch; a spectrum without.

    Values in between are interpolated linearly. The middle stays in the middle; what is then missing at both ends is
    silence, as of `time_shift`. Source: T. Ko et al., Audio Augmentation for Speech Recognition, 2015.

    Parameters
    ----------
    slowest, fastest
        The least factor, from 0.5 to 1, and the largest, from 1 to 2.
    """
    import torch

    long = _long(x)
    middle = (long - 1) / 2
    factor = draws.uniform(1, low=slowest, high=fastest)
    source = middle + (torch.arange(long, device=x.device) - middle) * factor  # (B, long)
    return _between(x, source), y


@augments("spectra", refuse=_channel)
def frequency_warp(x: Tensor, y: Tensor, draws: Draws, *, most: Annotated[float, Field(ge=0, le=0.3)] = 0.1) -> Pair:
    """
    Spectra (1, frames, bands) stretched along their bands by a factor that is drawn: a longer or shorter vocal tract.

    Source: N. Jaitly and G. Hinton, Vocal Tract Length Perturbation, 2013.

    Parameters
    ----------
    most
        How far a factor may be from 1, from 0 to 0.3.
    """
    import torch

    bands = torch.arange(x.shape[3], device=x.device)
    source = (bands * draws.uniform(1, low=1 - most, high=1 + most)).clamp(max=x.shape[3] - 1)  # (B, M)
    return _between(x.transpose(2, 3), source).transpose(2, 3), y


@augments("spectra", refuse=_channel)
def spec_augment(
    x: Tensor,
    y: Tensor,
    draws: Draws,
    *,
    frames: Annotated[float, Field(ge=0, le=1)] = 0.2,
    bands: Annotated[float, Field(ge=0, le=1)] = 0.2,
    masks: Annotated[int, Field(ge=1, le=8)] = 1,
) -> Pair:
    """
    Spectra (1, frames, bands) of which some frames and some bands in a row are masked by the picture's mean.

    Each mask's width is drawn from 0 to the widest, and its place among those where it fits. Source: D. Park et al.,
    SpecAugment, 2019, section 2, without its time warping, which gains little there.

    Parameters
    ----------
    frames, bands
        The widest mask as a part of all frames, and of all bands, from 0 to 1.
    masks
        How many in each direction, from 1 to 8.
    """
    mean = x.mean((1, 2, 3), keepdim=True)
    for _ in range(masks):
        for axis, widest in ((2, frames), (3, bands)):
            x = x.where(~_mask(x, axis, widest, draws), mean)
    return x, y


def _mask(x: Tensor, axis: int, widest: float, draws: Draws) -> Tensor:
    """Where a mask of a drawn width and place is along an axis, to be spread over x (B, 1, F, M)."""
    import torch

    size = x.shape[axis]
    width = draws.integers(0, int(widest * size) + 1, 1)  # (B, 1)
    begin = (draws.uniform(1) * (size - width + 1)).long()
    at = torch.arange(size, device=x.device)
    masked = (at >= begin) & (at < begin + width)  # (B, size)
    return masked[:, None, :, None] if axis == 2 else masked[:, None, None]


def _long(x: Tensor) -> int:
    """Samples of sounds (B, T), or frames of spectra (B, 1, F, M)."""
    return x.shape[1] if x.dim() == 2 else x.shape[2]


def _along(values: Tensor, x: Tensor) -> Tensor:
    """Values (B, T or F) as they are spread over x."""
    return values if x.dim() == 2 else values[:, None, :, None]


def _silence(x: Tensor) -> Tensor:
    """What stands where nothing is heard: 0 in sounds, in a spectrum the least that it has."""
    return x.new_zeros(()) if x.dim() == 2 else x.amin((1, 2, 3), keepdim=True)


def _taken(x: Tensor, places: Tensor) -> Tensor:
    """X at places (B, T or F) in time, which it has."""
    return x.gather(1, places) if x.dim() == 2 else x.gather(2, _along(places, x).expand_as(x))


def _between(x: Tensor, places: Tensor) -> Tensor:
    """X at places (B, T or F) that may lie between two, or outside, where it is silent."""
    low = places.floor()
    part, last = _along((places - low).to(x.dtype), x), _long(x) - 1
    one, other = (_taken(x, (low.long() + i).clamp(0, last)) for i in (0, 1))
    inside = _along((places >= 0) & (places <= last), x)
    return (one + part * (other - one)).where(inside, _silence(x))
