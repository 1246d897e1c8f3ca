"""The table's entries for models that make samples: their options, checked; the models themselves are next door."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .fitting import Sample, Size, images, takes
from .images import IMAGES

if TYPE_CHECKING:
    from torch import nn

HALVED = 4  # pixels a side at least, which can be halved twice


def _labelled(sample: Sample, *, labels: bool, **others: Any) -> str:
    """The sentence for labels that are to be told where there are none."""
    if sample[1] or not labels:
        return ""
    return "options={'labels': True}: the samples have no classes to be told; leave it out"


def _halved(sample: Sample, *, width: int, **others: Any) -> str:
    """The sentence for a width that has no half."""
    return "" if width > 1 else f"options={{'width': {width}}}: must be at least 2, since a layer has half of it"


@takes(
    f"{IMAGES} of at least {HALVED}x{HALVED} pixels",
    lambda shape, *rest: images(shape, *rest) and min(shape[1:]) >= HALVED,
    chain=False,
    tasks=("adversarial",),
    rules=(_labelled,),
)
def gan(
    shape: tuple[int, ...],
    classes: int,
    vocabulary: int = 0,
    *,
    noise: Size = 16,
    labels: bool = False,
    width: Size = 32,
) -> nn.Module:
    """
    GAN of convolutions: a generator of images, and a discriminator that tells them from real ones.

    For `task="adversarial"`, whose options `noise` and `labels` it shares. See `lepton_lab.models.gan`.

    Parameters
    ----------
    noise
        Numbers that the generator makes an image of, 1 or more.
    labels
        Whether both are told the class of an image.
    width
        Maps of the layer next to the image, at least 1; the one behind it has twice as many.

    Raises
    ------
    SpecError
        If samples are no images, or too small to be halved twice.
    """
    from .gan import GAN

    return GAN(shape, noise, width, classes if labels else 0)


@takes(
    "numbers",
    lambda shape, classes, vocabulary: not vocabulary and bool(shape),
    chain=False,
    tasks=("flow_matching",),
    rules=(_labelled, _halved),
)
def flow(
    shape: tuple[int, ...],
    classes: int,
    vocabulary: int = 0,
    *,
    latent: Size = 16,
    labels: bool = False,
    width: Size = 512,
) -> nn.Module:
    """
    Latent flow: an auto-encoder, and a field of velocities that carries noise to what it makes of samples.

    For `task="flow_matching"`, whose options `latent` and `labels` it shares. See `lepton_lab.models.flow`.

    Parameters
    ----------
    latent
        Numbers that a sample becomes, 1 or more.
    labels
        Whether the field is told the class that noise is to become a sample of.
    width
        Units of the layer next to the sample, at least 2; the one behind it has half as many.

    Raises
    ------
    SpecError
        If samples are tokens.
    """
    from .flow import LatentFlow

    return LatentFlow(shape, latent, width, classes if labels else 0)
