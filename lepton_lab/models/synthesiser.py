"""
A synthesiser: the spectrum of a word over time, of the word and of a few numbers that tell recordings of it apart.

Legend of the shape comments: B samples, N frames, F frequencies, C channels, Z latent numbers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

KERNEL = 5  # frames


class Synthesiser(nn.Module):
    """
    A conditional variational autoencoder: an encoder hears a recording, a decoder says the word again.

    The encoder gives a mean and a spread for each latent number, noise of that spread is added, and what the decoder
    makes of the sum is to be the recording. Latent numbers are kept near a standard normal distribution, so that later
    they can be drawn, or left at 0, without a recording. Sources: D. Kingma and M. Welling, Auto-Encoding Variational
    Bayes, 2013; K. Sohn et al., Learning Structured Output Representation Using Deep Conditional Generative Models,
    2015.

    Parameters
    ----------
    frames, frequencies
        N and F.
    classes
        Words, or words of a voice.
    width, latent
        C and Z.
    """

    def __init__(self, frames: int, frequencies: int, classes: int, width: int, latent: int) -> None:
        super().__init__()
        self.word = nn.Embedding(classes, width)
        self.hear = nn.Sequential(
            nn.Conv1d(frequencies, width, KERNEL, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv1d(width, width, KERNEL),
            nn.ReLU(),
        )
        self.differs = nn.Linear(2 * width, 2 * latent)
        self.begin = nn.Linear(width + latent, width)
        self.place = nn.Parameter(torch.randn(width, frames) / 2)  # of each frame in the word
        self.say = nn.ModuleList(nn.Conv1d(width, width, KERNEL, padding="same") for _ in range(3))
        self.spectrum = nn.Conv1d(width, frequencies, 1)

    def forward(self, x: Tensor, word: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, 1, N, F), (B,), (B, Z) -> what is said again (B, 1, N, F), and mean and log variance (B, Z) each."""
        mean, spread = self.encode(x, word)
        return self.decode(word, mean + noise * (spread / 2).exp()), mean, spread

    def encode(self, x: Tensor, word: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of the latent numbers, (B, Z) each."""
        heard = self.hear(x[:, 0].transpose(1, 2)).mean(2)  # (B, C)
        return self.differs(torch.cat([heard, self.word(word)], 1)).chunk(2, 1)

    def decode(self, word: Tensor, latent: Tensor) -> Tensor:
        """(B,), (B, Z) -> (B, 1, N, F)."""
        hidden = self.begin(torch.cat([self.word(word), latent], 1))[:, :, None] + self.place  # (B, C, N)
        for layer in self.say:
            hidden = hidden + functional.relu(layer(hidden))
        return self.spectrum(hidden).transpose(1, 2)[:, None]
