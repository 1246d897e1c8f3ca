"""
One file of sound: WAV read with NumPy, FLAC and OGG by soundfile; its rate and length, and its samples at another rate.

Legend of the shape comments: T samples of time, C channels.
"""

from __future__ import annotations

import struct
from math import gcd
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from ...errors import needs

if TYPE_CHECKING:
    import numpy as np

OURS = (".wav", ".wave")
THEIRS = (".flac", ".ogg", ".aiff", ".aif", ".mp3")
KINDS = OURS + THEIRS
PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE


class Head(NamedTuple):
    """What a file of sound says of itself."""

    rate: int
    """Samples a second."""
    channels: int
    length: int
    """Samples of each channel."""
    coding: str = ""
    """"u1", "i2", "i3", "i4", "f4" or "f8"; "" where another library reads it."""
    begin: int = 0
    """Of the samples, in bytes."""


def head(path: Path) -> Head:
    """A file's rate and length, by its beginning; ValueError or OSError where it is no sound, or cut short."""
    if path.suffix.lower() in OURS:
        with path.open("rb") as file:
            return _riff(file, path.stat().st_size)
    needs(f"reading {path.suffix}", "soundfile")
    import soundfile

    try:
        about = soundfile.info(path)
    except RuntimeError as error:
        raise ValueError(f"no sound that soundfile knows ({error})") from None
    return Head(about.samplerate, about.channels, about.frames)


def _riff(file: BinaryIO, size: int) -> Head:
    """The head of a WAV (Multimedia Programming Interface and Data Specifications 1.0, IBM and Microsoft, 1991)."""
    start = file.read(12)
    if start[:4] != b"RIFF" or start[8:] != b"WAVE":
        raise ValueError("no WAV: it does not begin with RIFF")
    form = None
    while len(chunk := file.read(8)) == 8:
        name, length = struct.unpack("<4sI", chunk)
        if name == b"fmt ":
            body = file.read(length + length % 2)
            if len(body) < 16:
                raise ValueError("cut short")
            form = struct.unpack("<HHIIHH", body[:16])
            if form[0] == EXTENSIBLE and len(body) >= 26:
                form = (struct.unpack("<H", body[24:26])[0], *form[1:])
        elif name == b"data":
            return _coded(form, file.tell(), min(length, size - file.tell()), length)
        else:
            file.seek(length + length % 2, 1)
    raise ValueError("cut short")


def _coded(form: tuple[int, ...] | None, begin: int, there: int, said: int) -> Head:
    if form is None:
        raise ValueError("its samples have no form")
    coding, channels, rate, _, _, bits = form
    known = {(PCM, 8): "u1", (PCM, 16): "i2", (PCM, 24): "i3", (PCM, 32): "i4", (FLOAT, 32): "f4", (FLOAT, 64): "f8"}
    if (coding, bits) not in known:
        raise ValueError(f"samples of {bits} bits in coding {coding}; save it as PCM of 8 to 32 bits, or floats")
    if not channels or not rate or not there:
        raise ValueError("there are no samples in it")
    if there < said and said < 2**31:  # programs that write to a pipe say more
        raise ValueError("cut short")
    return Head(rate, channels, there // (channels * bits // 8), known[coding, bits], begin)


def read(path: Path, rate: int, seconds: float) -> np.ndarray:
    """
    The first seconds of a sound, float32 (T,) from -1 to 1, its channels averaged; what is shorter ends in silence.

    A sound of another rate is resampled (a polyphase filter, which keeps what both rates can carry).
    """
    import numpy as np

    about = head(path)
    wave = _samples(path, about, round(seconds * about.rate) + about.rate // 10)  # (T, C)
    wave = wave.mean(1, dtype=np.float32)
    if about.rate != rate:
        from scipy.signal import resample_poly

        common = gcd(rate, about.rate)
        wave = resample_poly(wave, rate // common, about.rate // common).astype(np.float32)
    length = round(seconds * rate)
    return np.pad(wave[:length], (0, max(0, length - len(wave))))


def _samples(path: Path, about: Head, most: int) -> np.ndarray:
    """The first samples (T, C), from -1 to 1."""
    import numpy as np

    count = min(most, about.length)
    if not about.coding:
        import soundfile

        return soundfile.read(path, count, dtype="float32", always_2d=True)[0]
    size = int(about.coding[1])
    with path.open("rb") as file:
        file.seek(about.begin)
        body = file.read(count * about.channels * size)
    body = body[: len(body) // (size * about.channels) * size * about.channels]
    if about.coding == "i3":  # three bytes are the upper ones of four
        wide = np.zeros((len(body) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(body, np.uint8).reshape(-1, 3)
        values = wide.view("<i4")[:, 0].astype(np.float32) / 2**31
    elif about.coding == "u1":
        values = (np.frombuffer(body, np.uint8).astype(np.float32) - 128) / 128
    else:
        values = np.frombuffer(body, f"<{about.coding}").astype(np.float32)
        values = values / {"i2": 2**15, "i4": 2**31}.get(about.coding, 1)
    return values.reshape(-1, about.channels)
