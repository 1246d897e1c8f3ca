"""
LeNet: the networks by which papers tell what compression saves.

Legend of the shape comments: N samples, C channels, H height, W width, K classes.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Literal

from .fitting import images, takes
from .images import initialised

if TYPE_CHECKING:
    from torch import nn

SMALLEST = 16  # pixels a side: of fewer, two convolutions of 5x5 with a pooling after each leave nothing


@takes(
    f"images of at least {SMALLEST}x{SMALLEST} pixels",
    lambda shape, *rest: images(shape, *rest) and min(shape[1:]) >= SMALLEST,
    layers=4,
)
def lenet(
    shape: tuple[int, ...], classes: int, vocabulary: int = 0, *, version: Literal["5", "300-100"] = "5"
) -> nn.Module:
    """
    LeNet-5 or LeNet-300-100 as papers on compression have them: 431,080 and 266,610 parameters on MNIST.

    LeCun and others, Gradient-based learning applied to document recognition, 1998; with ReLU, and max pooling.

    Parameters
    ----------
    version
        "5": convolutions of 5x5 to 20 and 50 channels, each pooled, and a dense layer of 500; "300-100": two dense
        layers alone.

    Raises
    ------
    SpecError
        If samples are no images, or small ones.
    """
    from torch import nn

    before, *size = shape
    layers: list[nn.Module] = []
    if version == "5":
        for after in (20, 50):
            layers += [nn.Conv2d(before, after, 5), nn.ReLU(), nn.MaxPool2d(2)]  # (N, C, H, W)
            before, size = after, [(pixels - 4) // 2 for pixels in size]
    layers.append(nn.Flatten())  # (N, C * H * W)
    before *= prod(size)
    for after in (500,) if version == "5" else (300, 100):
        layers += [nn.Linear(before, after), nn.ReLU()]
        before = after
    return initialised(nn.Sequential(*layers, nn.Linear(before, max(classes, 1))))  # (N, K)
