"""
Latent flow: a sample becomes a few numbers, and noise flows to where such numbers lie.

Legend of the shape comments: B samples, D latent numbers, K classes.
"""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor, nn

from .gan import one_hot


class LatentFlow(nn.Module):
    """
    An auto-encoder, and a field of velocities that carries noise to its latent numbers.

    The encoder says of each latent number a mean and a variance, as of Kingma and Welling (arXiv:1312.6114). The field
    is learned by flow matching (Lipman and others, arXiv:2210.02747): on the straight way from noise to a latent, the
    velocity is their difference. A latent has few numbers, so its way is easy to learn (Rombach and others,
    arXiv:2112.10752).

    Parameters
    ----------
    shape
        Of a sample.
    latent
        D.
    width
        Units of the layer next to the sample; the one behind it has half as many.
    classes
        K; 0 where the field is not told them.
    """

    def __init__(self, shape: tuple[int, ...], latent: int, width: int, classes: int = 0) -> None:
        super().__init__()
        size, half = prod(shape), width // 2
        self.encoder = nn.Sequential(nn.Flatten(), *layers(size, width, half, 2 * latent))
        self.decoder = nn.Sequential(*layers(latent, half, width, size), nn.Unflatten(1, shape))
        self.velocity = Velocity(latent, 384, classes)

    def forward(
        self, x: Tensor, spread: Tensor, start: Tensor, time: Tensor, labels: Tensor | None = None
    ) -> dict[str, Tensor]:
        """
        What a loss needs, of samples x (B, ...), noise for the encoder and for the flow (B, D) each, and times (B,).

        In eval mode also `made`: samples that the noise for the flow becomes.
        """
        mean, log_variance = self.encoder(x).chunk(2, 1)  # (B, D) each
        latent = mean + (log_variance / 2).exp() * spread  # (B, D)
        goal = latent.detach()  # the flow follows the encoder, and does not pull it
        way = start + time[:, None] * (goal - start)
        told = {
            "restored": self.decoder(latent),
            "mean": mean,
            "log_variance": log_variance,
            "velocity": self.velocity(way, time, labels),
            "right": goal - start,
        }
        return told if self.training else {**told, "made": self.make(start, labels)}

    def make(self, noise: Tensor, labels: Tensor | None = None, steps: int = 20) -> Tensor:
        """Noise (B, D), and where it has classes (B,) -> samples (B, ...), by so many steps of the midpoint method."""
        for step in range(steps):
            time = torch.full_like(noise[:, 0], step / steps)
            half = noise + self.velocity(noise, time, labels) / (2 * steps)
            noise = noise + self.velocity(half, time + 1 / (2 * steps), labels) / steps
        return self.decoder(noise)


class Velocity(nn.Module):
    """Which way a point of the latent space goes at a time from 0 to 1, and of which class it becomes a sample."""

    def __init__(self, latent: int, width: int, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.layers = nn.Sequential(*layers(latent + 2 + classes, width, width, latent))

    def forward(self, x: Tensor, time: Tensor, labels: Tensor | None = None) -> Tensor:
        """(B, D), (B,) and maybe (B,) -> (B, D)."""
        told = [x, time[:, None], (time[:, None] * torch.pi).cos()]
        if self.classes:
            told.append(one_hot(labels, self.classes, x))
        return self.layers(torch.cat(told, 1))


def layers(first: int, *sizes: int) -> list[nn.Module]:
    """Linear layers of these sizes, one after the other, with a smooth ReLU between."""
    made: list[nn.Module] = []
    for before, after in zip((first, *sizes), sizes, strict=False):
        made += [nn.Linear(before, after), nn.SiLU()]
    return made[:-1]
