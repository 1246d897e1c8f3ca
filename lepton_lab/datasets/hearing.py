"""
Sounds that are made: tones of six kinds, and vowels as a voice has them.

Legend of the shape comments: N sounds, T samples of one, F frequencies.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from .base import Data, holds, shuffled

if TYPE_CHECKING:
    import torch
    from torch import Tensor

RATE = 8000  # samples a second
LONG = 4000  # samples: half a second
HEARD = ("classification", "ctc", "denoising", "diffusion", "enhancement", "variational", "contrastive")
"""Tasks that sounds are for, some after a transform."""
LOUD = 0.1  # root mean square of a sound, where 1 is as loud as a file can hold
TONES = ["sine", "square", "sawtooth", "rising", "falling", "noise"]
SILENCE = 0.05  # of a vowel's length, fading in and out

# First three formants in Hz, means over men. G. Peterson and H. Barney, Control Methods Used in a Study of the Vowels,
# J. Acoust. Soc. Am. 24, 1952, table II.
FORMANTS = {
    "heed": (270, 2290, 3010),
    "head": (530, 1840, 2480),
    "had": (660, 1720, 2410),
    "hod": (730, 1090, 2440),
    "who'd": (300, 870, 2240),
    "heard": (490, 1350, 1690),
}
WIDTHS = (60.0, 90.0, 150.0)  # Hz, of the formants
SPEAKERS = 20

Sounds = Annotated[int, Field(ge=60)]


@holds((LONG,), len(TONES), tasks=HEARD, made=True, kind="sound")
def tones(root: Path, seed: int, *, samples: Sounds = 600, noise: Annotated[float, Field(ge=0)] = 0.1) -> Data:
    """
    Made: sounds of half a second of six kinds: sine, square and sawtooth, a rising and a falling tone, and noise.

    Each has a pitch of its own, from 200 to 800 Hz, and a noise that is heard beneath it. Pairs of a sample's numbers
    tell little; `mel` of TRANSFORMS makes pictures of them.

    Data: x float32 (N, 4000) at 8,000 samples a second, root mean square 0.1; y int64 (N,).

    Parameters
    ----------
    root, seed
        As of every data set; nothing is read.
    samples
        Sounds in all, at least 60, as many of each kind: 80 % for training, 10 % for validation, 10 % for testing.
    noise
        Root mean square of the noise beneath, as a part of the tone's, 0 or more.
    """
    import torch

    draw = torch.Generator().manual_seed(seed)
    y = torch.arange(samples) % len(TONES)
    x = _toned(y, draw)
    x = x / x.square().mean(1, keepdim=True).sqrt() + noise * torch.randn(x.shape, generator=draw)
    train, val, test = ((_levelled(x[part]), y[part]) for part in shuffled(samples, seed, 0.1, 0.1))
    return Data(train, val, test, shape=(LONG,), classes=TONES, sample_rate=RATE)


def _toned(kinds: Tensor, draw: torch.Generator) -> Tensor:
    """A sound of each kind (N,) of TONES, (N, T)."""
    import torch

    pitch = 200 * 4 ** torch.rand(len(kinds), 1, generator=draw)  # Hz
    time = torch.arange(LONG) / LONG - 0.5
    bent = torch.where(kinds == 3, 1.0, 0.0) - torch.where(kinds == 4, 1.0, 0.0)  # octaves over the sound
    turns = (pitch * 2 ** (bent[:, None] * time) / RATE).cumsum(1) + torch.rand(len(kinds), 1, generator=draw)
    sine, ramp = (2 * torch.pi * turns).sin(), 2 * (turns % 1) - 1
    hiss = torch.randn(sine.shape, generator=draw)
    waves = torch.stack([sine, sine.sign(), ramp, sine, sine, hiss])  # (6, N, T)
    return waves[kinds, torch.arange(len(kinds))]


@holds((LONG,), len(FORMANTS), tasks=HEARD, made=True, kind="sound")
def vowels(root: Path, seed: int, *, samples: Sounds = 800) -> Data:
    """
    Made: six vowels of half a second, spoken by twenty voices that differ in pitch and length of the vocal tract.

    A voice is a row of pulses through three resonances, whose frequencies are those measured of men's vowels (G.
    Peterson and H. Barney, 1952, table II) over the length of its tract. Sixteen voices are for training, two for
    validation and two for testing, so that whoever is tested was never heard.

    Data: x float32 (N, 4000) at 8,000 samples a second, root mean square 0.1; y int64 (N,), named by a word that has
    the vowel. The `speaker` of each is in `about`.

    Parameters
    ----------
    root, seed
        As of every data set; nothing is read.
    samples
        Sounds in all, at least 60; each voice speaks as many, and each vowel alike often.
    """
    import torch

    draw = torch.Generator().manual_seed(seed)
    place = torch.arange(samples)
    voice, y = place % SPEAKERS, place // SPEAKERS % len(FORMANTS)
    tract = 0.85 + 0.4 * torch.rand(SPEAKERS, generator=draw)  # above 1 it is shorter than those that were measured
    pitch = 100 * tract**2.5 * 2 ** (0.5 * torch.rand(SPEAKERS, generator=draw))  # Hz: who is small has a high voice
    parts, about = [], {}
    for name, speakers in zip(("train", "val", "test"), shuffled(SPEAKERS, seed, 0.1, 0.1), strict=True):
        mine = torch.isin(voice, speakers)
        about[name] = {"speaker": voice[mine].tolist()}
        parts.append((_spoken(y[mine], pitch[voice[mine]], tract[voice[mine]], draw), y[mine]))
    train, val, test = parts
    return Data(train, val, test, shape=(LONG,), classes=list(FORMANTS), sample_rate=RATE, about=about)


def _spoken(vowels: Tensor, pitch: Tensor, tract: Tensor, draw: torch.Generator) -> Tensor:
    """
    A sound of each vowel (N,), with a pitch in Hz (N,) and a tract (N,): (N, T).

    Source and filter, G. Fant, Acoustic Theory of Speech Production, 1960: pulses, whose spectrum falls as a glottis
    and lips make it, times a resonance F^2 / (F^2 - f^2 + i f B) for each formant F of width B.
    """
    import torch

    time = torch.arange(LONG) / LONG
    drift = 1 + 0.1 * torch.randn(len(vowels), 2, generator=draw)  # where the pitch begins, and ends
    glide = drift[:, :1] * (1 - time) + drift[:, 1:] * time  # (N, T)
    turns = (pitch[:, None] * glide / RATE).cumsum(1)
    pulses = torch.nn.functional.pad(turns.floor().diff(dim=1), (1, 0))
    f = torch.fft.rfftfreq(LONG, 1 / RATE)  # (F,)
    spectrum = torch.fft.rfft(pulses) / (1 + f / 300)
    formants = torch.tensor(list(FORMANTS.values()))[vowels] * tract[:, None]  # (N, 3)
    formants = formants * (1 + 0.03 * torch.randn(formants.shape, generator=draw))
    for centre, width in zip((formants**2).unbind(1), WIDTHS, strict=True):
        real = centre[:, None] - f**2  # (N, F)
        spectrum = spectrum * (centre[:, None] / torch.complex(real, (f * width).expand_as(real)))
    fading = (torch.minimum(time, 1 - time) / SILENCE).clamp(max=1)
    sound = torch.fft.irfft(spectrum, LONG) * fading
    return _levelled(
        sound / sound.square().mean(1, keepdim=True).sqrt() + 0.02 * torch.randn(sound.shape, generator=draw)
    )


def _levelled(x: Tensor) -> Tensor:
    """Sounds (N, T) that are all as loud."""
    return x * (LOUD / x.square().mean(1, keepdim=True).sqrt())
