"""
A recogniser of words: convolutions over a picture of a spectrum, then over time alone.

Legend of the shape comments: B samples, F frames, M bands, C channels, K classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

GROUPS = 8  # of channels that are normalised together: of each sample by itself, so that any cut of a batch is alike


def recogniser(bands: int, outputs: int, width: int, dropout: float, frames: bool) -> nn.Sequential:
    """
    Level -> two convolutions, each of which halves frames and bands -> three over time -> scores of the classes.

    Layers in a row, so that a pipeline may cut it anywhere. Each score sees 21 frames at 10 ms each, and of the whole
    sound what `Whole` keeps of them.

    Parameters
    ----------
    bands, outputs
        M and K.
    width
        C of the layers over time.
    dropout
        Fraction left out of what the head sees, in training.
    frames
        Scores (B, F / 4, K) of every fourth frame, for CTC; else (B, K).
    """
    rest = (bands + 3) // 4
    head: tuple[nn.Module, ...] = (Each(), nn.Dropout(dropout), nn.Linear(width, outputs))
    if not frames:
        head = (Whole(), nn.Dropout(dropout), nn.Linear(2 * width, outputs))
    return nn.Sequential(
        Level(),
        *_block(nn.Conv2d(1, 16, 3, stride=2, padding=1)),  # (B, 16, F / 2, M / 2)
        *_block(nn.Conv2d(16, 32, 3, stride=2, padding=1)),  # (B, 32, F / 4, M / 4)
        Bands(),
        *_block(nn.Conv1d(32 * rest, width, 3, padding=1)),  # (B, C, F / 4)
        *_block(nn.Conv1d(width, width, 3, padding=1)),
        *_block(nn.Conv1d(width, width, 3, padding=2, dilation=2)),
        *head,
    )


def _block(layer: nn.Conv1d | nn.Conv2d) -> tuple[nn.Module, ...]:
    channels = layer.out_channels
    return layer, nn.GroupNorm(GROUPS if channels % GROUPS == 0 else 1, channels), nn.ReLU()


class Level(nn.Module):
    """
    Each band less its mean over the recording.

    Another microphone, or another room, adds about as much to a band's logarithm in all frames: so it is gone.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, F, M) -> (B, 1, F, M)."""
        return x - x.mean(2, keepdim=True)


class Bands(nn.Module):
    """Channels and bands become one axis: from here on there is time alone."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, F, M) -> (B, C * M, F)."""
        return x.transpose(2, 3).flatten(1, 2)


class Each(nn.Module):
    """Frame by frame."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, F) -> (B, F, C)."""
        return x.transpose(1, 2)


class Whole(nn.Module):
    """What is heard on average, and what is heard most, wherever in the sound it is."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, F) -> (B, 2 * C)."""
        return torch.cat([x.mean(2), x.amax(2)], 1)
