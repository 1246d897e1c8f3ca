"""
The table's entries for models of images and other numbers: those that are layers in a row, and options of the others.

Legend of the shape comments: N samples, C channels, H height, W width, K classes.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any, Literal

from .fitting import Dropout, Sample, Size, images, takes

if TYPE_CHECKING:
    from torch import nn

IMAGES = "images (channels, height, width)"
UNPADDED = 18  # pixels: smaller images would vanish in three unpadded convolutions with pooling between
POOLABLE = 5  # pixels: smaller images are worth more than the time that pooling them would save


def _features(sample: Sample, **options: Any) -> str:
    """The sentence for samples without a number."""
    shape = sample[0]
    return (
        ""
        if shape and 0 not in shape
        else f"model='mlp': samples of shape {shape} have no features; make x (N, features)"
    )


@takes("numbers", lambda shape, classes, vocabulary: not vocabulary, layers=2, dealt="hidden", rules=(_features,))
def mlp(
    shape: tuple[int, ...], classes: int, vocabulary: int = 0, *, hidden: Size = 128, dropout: Dropout = 0.0
) -> nn.Module:
    """
    Multilayer perceptron with one hidden layer, for samples of any shape, which it flattens (784-128-10 on MNIST).

    Parameters
    ----------
    hidden
        Units of the hidden layer, at least 1.
    dropout
        Fraction of the hidden units that each training step leaves out, from 0 to below 1.

    Raises
    ------
    SpecError
        If a sample holds no number, or tokens.
    """
    return _classifier([], prod(shape), classes, hidden, dropout)


@takes(IMAGES, images, layers=5)
def cnn(
    shape: tuple[int, ...], classes: int, vocabulary: int = 0, *, hidden: Size = 64, dropout: Dropout = 0.0
) -> nn.Module:
    """
    Convolutional network for images of any size: conv 32-64-64, dense 64.

    Unpadded 3x3 convolutions with 2x2 max pooling after the first two. Images below 18 pixels are padded by one pixel
    a side, and what is below 5 pixels is not pooled, so that 8x8 digits keep 4x4 features.

    Parameters
    ----------
    hidden
        Units of the dense layer, at least 1.
    dropout
        Fraction of the dense units that each training step leaves out, from 0 to below 1.

    Raises
    ------
    SpecError
        If samples are no images.
    """
    return _convolutional(shape, classes, (32, 64, 64), hidden, dropout)


@takes(IMAGES, images, layers=4)
def mnist_cnn(
    shape: tuple[int, ...], classes: int, vocabulary: int = 0, *, hidden: Size = 128, dropout: Dropout = 0.25
) -> nn.Module:
    """
    Convolutional network as usual for MNIST: conv 32-64, dense 128, dropout.

    Both unpadded 3x3 convolutions are followed by 2x2 max pooling; 225,034 parameters on MNIST. Small images are
    treated as in `cnn`.

    Parameters
    ----------
    hidden
        Units of the dense layer, at least 1.
    dropout
        Fraction of the dense units that each training step leaves out, from 0 to below 1.

    Raises
    ------
    SpecError
        If samples are no images.
    """
    return _convolutional(shape, classes, (32, 64), hidden, dropout)


@takes(IMAGES, images)
def resnet(
    shape: tuple[int, ...],
    classes: int,
    vocabulary: int = 0,
    *,
    width: Size = 16,
    depth: Size = 3,
    residual: bool = True,
    pool: Literal["mean", "largest"] = "mean",
) -> nn.Module:
    """
    Residual network for images of any size, or a plain one of the same depth.

    31,754 parameters on MNIST. See `lepton_lab.models.resnet`.

    Parameters
    ----------
    width
        Channels of the first of three stages; the others have one and a half and two times as many.
    depth
        Blocks of two convolutions in all, at least 1, dealt evenly to the stages: 2 * depth + 2 layers with weights.
    residual
        Whether each block adds to its input (He and others, 2015); False leaves out just that.
    pool
        What of each channel the last layer is given: "mean" over the pixels, as He and others, or the "largest" value,
        which says that something is there, wherever, and learns in fewer steps what a few strokes tell.

    Raises
    ------
    SpecError
        If samples are no images.
    """
    from .resnet import ResNet

    return ResNet(shape, max(classes, 1), width, depth, residual, pool == "largest")


@takes(
    "pictures (channels, height, width) with boxes, and names of their classes (`classes` of the Dataset)",
    lambda shape, classes, vocabulary: images(shape, classes, vocabulary) and classes > 0,
    chain=False,
    tasks=("detection",),
)
def detector(shape: tuple[int, ...], classes: int, vocabulary: int = 0, *, width: Size = 16) -> nn.Module:
    """
    Detector without anchors: boxes around objects of about 12 to 60 pixels a side, in pictures of any size.

    210,191 parameters on scenes of digits. See `lepton_lab.models.detector`.

    Parameters
    ----------
    width
        Channels of the first convolution; the last has six times as many.

    Raises
    ------
    SpecError
        If samples are no pictures, or classes have no names.
    """
    from .detector import Detector

    return Detector(shape[0], classes, width)


def _convolutional(
    shape: tuple[int, ...], classes: int, channels: tuple[int, ...], hidden: int, dropout: float
) -> nn.Module:
    from torch import nn

    before, *size = shape
    padding = int(min(size) < UNPADDED)
    layers: list[nn.Module] = []
    for i, after in enumerate(channels):
        layers += [nn.Conv2d(before, after, 3, padding=padding), nn.ReLU()]  # (N, C, H, W)
        size = [pixels - 2 + 2 * padding for pixels in size]
        if i < 2 and min(size) >= POOLABLE:
            layers.append(nn.MaxPool2d(2))
            size = [pixels // 2 for pixels in size]
        before = after
    return _classifier(layers, before * prod(size), classes, hidden, dropout)


def _classifier(layers: list[nn.Module], features: int, classes: int, hidden: int, dropout: float) -> nn.Module:
    """Layers, and a dense hidden layer over what they make of a sample, (N, ...) -> (N, K)."""
    from torch import nn

    return initialised(
        nn.Sequential(
            *layers,
            nn.Flatten(),  # (N, ...) -> (N, features)
            nn.Linear(features, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, max(classes, 1)),  # (N, K)
        )
    )


def initialised(model: nn.Sequential) -> nn.Module:
    """
    Gaussian weights that keep the size of the signal from layer to layer, biases 0.

    Variance 2 / inputs behind a ReLU, which halves the mean square (He and others, arXiv:1502.01852); 1 / inputs
    behind the normalised data, and behind a pooling of ReLUs, whose maximum makes up for that half. torch's own start,
    1 / (3 inputs), ends five epochs of digits at 0.956, this one at 0.980 (test accuracy, means of 6 and 12 seeds).
    """
    from torch import nn

    gain = 1
    for layer in model:
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            assert layer.bias is not None
            nn.init.normal_(layer.weight, 0, (gain / layer.weight[0].numel()) ** 0.5)
            nn.init.zeros_(layer.bias)
            gain = 2
        elif isinstance(layer, nn.MaxPool2d):
            gain = 1
    return model
