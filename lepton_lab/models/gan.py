"""
GAN: a generator that makes pictures of noise, and a discriminator that tells them from real ones.

Legend of the shape comments: B samples, C channels, H height, W width, D numbers of noise, K classes, M maps.
"""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm


class GAN(nn.Module):
    """
    The two players of Goodfellow and others (arXiv:1406.2661), of convolutions as in DCGAN (arXiv:1511.06434).

    Each may be told the class of its picture (Mirza and Osindero, arXiv:1411.1784). Called as a whole, pictures are
    made.

    Parameters
    ----------
    shape
        (C, H, W) of a picture.
    noise
        D.
    width
        Maps of the layer next to the picture; the one behind it has twice as many.
    classes
        K; 0 where nobody is told them.
    """

    def __init__(self, shape: tuple[int, ...], noise: int, width: int, classes: int = 0) -> None:
        super().__init__()
        self.generator = Generator(shape, noise, width, classes)
        self.discriminator = Discriminator(shape, width, classes)

    def forward(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        """(B, D), and where it has classes (B,) whole numbers below K -> (B, C, H, W)."""
        return self.generator(noise, labels)


class Generator(nn.Module):
    """Noise -> small maps -> a picture, of twice the side after each of two layers."""

    def __init__(self, shape: tuple[int, ...], noise: int, width: int, classes: int) -> None:
        super().__init__()
        channels, *self.sides = shape
        self.classes = classes
        self.start = 2 * width, *(-(-side // 4) for side in self.sides)
        self.project = nn.Linear(noise + classes, prod(self.start))
        self.grow = nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1)
        self.draw = nn.ConvTranspose2d(width, channels, 4, stride=2, padding=1)
        self.norms = nn.ModuleList([nn.GroupNorm(1, maps) for maps in (2 * width, width)])

    def forward(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        """(B, D) and maybe (B,) -> (B, C, H, W)."""
        if self.classes:
            noise = torch.cat([noise, one_hot(labels, self.classes, noise)], 1)  # (B, D + K)
        x = self.project(noise).unflatten(1, self.start)  # (B, 2 M, H / 4, W / 4)
        x = self.grow(functional.relu(self.norms[0](x)))  # (B, M, H / 2, W / 2)
        x = self.draw(functional.relu(self.norms[1](x)))  # (B, C, H, W), or some more where 4 does not divide them
        height, width = self.sides
        return x[..., :height, :width]


class Discriminator(nn.Module):
    """
    A picture -> maps of half the side after each of two layers -> how real it looks.

    No layer may stretch what it is given by more than 1 (spectral normalisation, Miyato and others, arXiv:1802.05957),
    so that the generator's gradient stays of use however sure the discriminator is. What it finds is also held to a
    vector of the class that it is told (projection, Miyato and Koyama, arXiv:1802.05637).
    """

    def __init__(self, shape: tuple[int, ...], width: int, classes: int) -> None:
        super().__init__()
        channels, *sides = shape
        maps = 2 * width
        for _ in range(2):
            sides = [-(-side // 2) for side in sides]
        self.layers = nn.Sequential(
            spectral_norm(nn.Conv2d(channels, width, 4, stride=2, padding=1)),
            nn.LeakyReLU(0.2),
            spectral_norm(nn.Conv2d(width, maps, 4, stride=2, padding=1)),
            nn.LeakyReLU(0.2),
            spectral_norm(nn.Conv2d(maps, maps, 3, padding=1)),
            nn.LeakyReLU(0.2),
            nn.Flatten(),
        )
        features = int(self.layers(torch.zeros(1, *shape)).numel())
        self.out = spectral_norm(nn.Linear(features, 1))
        self.kinds = spectral_norm(nn.Embedding(classes, features)) if classes else None

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """(B, C, H, W) and maybe (B,) -> (B, 1), the higher the more real."""
        x = self.layers(x)  # (B, features)
        score = self.out(x)
        return score if self.kinds is None else score + (self.kinds(labels) * x).sum(1, keepdim=True)


def one_hot(labels: Tensor | None, classes: int, like: Tensor) -> Tensor:
    """(B,) -> (B, K) of 0 and 1, in the type of another tensor."""
    assert labels is not None, "the model was made for classes"
    return functional.one_hot(labels.long(), classes).to(like.dtype)
