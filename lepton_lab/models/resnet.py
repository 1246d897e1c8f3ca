"""
ResNet: blocks of convolutions that add to their input what they make of it, so that a deep net trains as a shallow one.

Legend of the shape comments: N samples, C channels, H height, W width, K classes.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

STAGES = 3  # in each the picture has half of the pixels a side of the one before
SMALLEST = 5  # pixels a side: of fewer a stage halves none
UNSHUFFLED = 24  # pixels a side, from which on the stem takes 2x2 of them as channels


class ResNet(nn.Sequential):
    """
    Stem, blocks in three stages, the mean or the largest value over the pixels, and a linear layer.

    After K. He et al., Deep residual learning for image recognition, arXiv:1512.03385, section 4.2; widths grow as
    2 : 3 : 4 here. `residual=False` leaves out the shortcuts and nothing else: the plain net of the same depth, in
    which a signal, and its gradient, must pass through every layer.

    Parameters
    ----------
    shape
        (C, H, W) of a sample.
    classes
        K.
    width
        Channels of the first stage.
    depth
        Blocks in all, of two convolutions each, dealt to the stages.
    residual
        Whether blocks add to their input.
    largest
        Whether the largest value over the pixels is taken, and not their mean.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        classes: int,
        width: int,
        depth: int,
        residual: bool = True,
        largest: bool = False,
    ) -> None:
        stem = Stem(shape, width)
        side, before = min(shape[1:]) // stem.step, width
        blocks = nn.Sequential()
        for stage in range(STAGES):
            after = width * (2 + stage) // 2
            for number in range(depth // STAGES + (stage < depth % STAGES)):
                stride = 2 if stage and not number and side >= SMALLEST else 1
                blocks.append(Block(before, after, stride, residual))
                side, before = -(-side // stride), after
        pool = nn.AdaptiveMaxPool2d(1) if largest else nn.AdaptiveAvgPool2d(1)
        head = OrderedDict(pool=pool, flat=nn.Flatten(), out=nn.Linear(before, classes))
        super().__init__(OrderedDict(stem=stem, blocks=blocks, **head))
        initialise(self)


class Stem(nn.Module):
    """
    The first convolution; of larger pictures it sees 2x2 pixels as the channels of one.

    A convolution of one or three channels leaves most of a processor's vector unit idle; of four times as many on a
    quarter of the pixels it costs as much and all that follows a quarter.
    """

    def __init__(self, shape: tuple[int, ...], width: int) -> None:
        super().__init__()
        channels, *sides = shape
        self.step = 2 if min(sides) >= UNSHUFFLED and not any(side % 2 for side in sides) else 1
        self.unshuffle = nn.PixelUnshuffle(self.step)
        self.conv = convolution(channels * self.step**2, width)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, width, H / step, W / step)."""
        return torch.relu(self.norm(self.conv(self.unshuffle(x))))


class Block(nn.Module):
    """
    relu(x + f(x)) with f of two convolutions; without the shortcut relu(f(x)).

    Where f changes the number of channels or pixels, a 1x1 convolution does as much to x.
    """

    def __init__(self, before: int, after: int, stride: int, residual: bool) -> None:
        super().__init__()
        self.conv1, self.norm1 = convolution(before, after, stride), nn.BatchNorm2d(after)
        self.conv2, self.norm2 = convolution(after, after), nn.BatchNorm2d(after)
        self.residual = residual
        self.shortcut: nn.Module = nn.Identity()
        if residual and (stride > 1 or before != after):
            self.shortcut = nn.Conv2d(before, after, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, before, H, W) -> (N, after, H / stride, W / stride), rounded up."""
        made = self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x)))))
        return torch.relu(self.shortcut(x) + made if self.residual else made)


def convolution(before: int, after: int, stride: int = 1) -> nn.Conv2d:
    """3x3, padded so that a stride of 1 keeps the size; the norm behind it has the bias."""
    return nn.Conv2d(before, after, 3, stride, padding=1, bias=False)


def initialise(model: nn.Module) -> None:
    """Gaussian weights with a variance of 2 / inputs, 1 / inputs of a linear layer; biases 0 (arXiv:1502.01852)."""
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            gain = 2 if isinstance(layer, nn.Conv2d) else 1
            nn.init.normal_(layer.weight, 0, (gain / layer.weight[0].numel()) ** 0.5)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
