"""The table's entries for models of sounds: their options, checked; the models themselves are next door."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from ..spectra import SIZE
from .fitting import Dropout, Size, takes

if TYPE_CHECKING:
    from torch import nn


@takes(
    "pictures of spectra (1, frames, bands) of at least 4 x 4, such as transforms=['mel'] makes of sounds",
    lambda shape, classes, vocabulary: not vocabulary and len(shape) == 3 and shape[0] == 1 and min(shape[1:]) >= 4,
    layers=11,
    tasks=("classification", "ctc"),
    by_task={"ctc": {"frames": True}},
)
def speech_recogniser(
    shape: tuple[int, ...],
    classes: int,
    vocabulary: int = 0,
    *,
    width: Size = 96,
    dropout: Dropout = 0.2,
    frames: bool = False,
) -> nn.Module:
    """
    Convolutional network that reads words from pictures of their spectra: one of a sound, or with `ctc` a row of them.

    155,146 parameters on ten words and 40 bands. See `lepton_lab.models.recogniser`.

    Parameters
    ----------
    width
        Channels of the layers over time.
    dropout
        Fraction of what the head sees that a training step leaves out, from 0 to below 1.
    frames
        Scores of every fourth frame, as task='ctc' has it in any case; else of the whole sound.

    Raises
    ------
    SpecError
        If samples are no pictures of one channel.
    """
    from .recogniser import recogniser

    return recogniser(shape[2], max(classes, 1), width, dropout, frames)


@takes(
    "spectra (1, frames, frequencies) of at least 16 x 16 with a class each, as transforms=['spectrum'] makes them",
    lambda shape, classes, vocabulary: (
        not vocabulary and len(shape) == 3 and shape[0] == 1 and min(shape[1:]) >= 16 and classes > 0
    ),
    chain=False,
    tasks=("variational",),
)
def speech_synthesiser(
    shape: tuple[int, ...],
    classes: int,
    vocabulary: int = 0,
    *,
    width: Size = 96,
    latent: Annotated[int, Field(ge=1, le=256)] = 8,
) -> nn.Module:
    """
    Conditional variational autoencoder: the spectrum of a word over time, from the word and a few numbers.

    See `lepton_lab.models.synthesiser`.

    Parameters
    ----------
    width
        Channels of the layers over time.
    latent
        Numbers in which recordings of one word differ.

    Raises
    ------
    SpecError
        If samples are no pictures of one channel with a class each.
    """
    from .synthesiser import Synthesiser

    return Synthesiser(shape[1], shape[2], classes, width, latent)


@takes(
    f"sounds of at least {SIZE} samples",
    lambda shape, classes, vocabulary: not vocabulary and len(shape) == 1 and shape[0] >= SIZE,
    chain=False,
    tasks=("enhancement",),
)
def enhancer(
    shape: tuple[int, ...],
    classes: int,
    vocabulary: int = 0,
    *,
    width: Size = 96,
    depth: Size = 3,
) -> nn.Module:
    """
    Convolutional network that takes the noise out of sounds, by a mask over their spectrum.

    213,057 parameters. See `lepton_lab.models.enhancer`.

    Parameters
    ----------
    width
        Channels of the layers over time.
    depth
        Layers between the first and the last, each of which looks twice as far as the one before.

    Raises
    ------
    SpecError
        If samples are no sounds, or too short.
    """
    from .enhancer import Enhancer

    return Enhancer(width, depth)
