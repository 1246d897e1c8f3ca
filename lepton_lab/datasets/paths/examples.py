"""One sample to be looked at: a picture, a sound or words, with what it is, as a line and as HTML."""

from __future__ import annotations

import base64
import struct
import zlib
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from ... import spelling

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from ..base import Data

LETTERS = 120  # of words
NUMBERS = 6  # of a row of numbers
SECONDS = 3.0  # of a sound


@dataclass(frozen=True)
class Example:
    """A sample, and what is to be said of it."""

    label: str
    words: str = ""
    png: bytes = b""
    wav: bytes = b""

    @property
    def line(self) -> str:
        """One line of text."""
        return f"{short(self.words)}  [{self.label}]" if self.label else short(self.words)

    @property
    def html(self) -> str:
        """A figure with a caption."""
        if self.png:
            body = f"<img alt='{escape(self.words, quote=True)}' src='{_uri('image/png', self.png)}'>"
        elif self.wav:
            body = f"<audio controls src='{_uri('audio/wav', self.wav)}'></audio>"
        else:
            body = f"<pre>{escape(short(self.words))}</pre>"
        return f"<figure>{body}<figcaption>{escape(self.label)}</figcaption></figure>"


def _uri(kind: str, body: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(body).decode()}"


def short(words: str) -> str:
    """The first letters, in one line."""
    text = " ".join(words.split())
    return text if len(text) <= LETTERS else f"{text[: LETTERS - 1]}…"


def of_sample(x: Tensor, y: Tensor, data: Data) -> Example:
    """A sample of data, whatever it is: a picture, a sound, text or numbers."""
    import torch

    label = "" if y.dim() else data.classes[int(y)] if data.classes else f"{float(y):.4g}"
    shape = " x ".join(map(str, x.shape))
    if data.vocabulary:
        return _text(x, y, data, label)
    if data.sample_rate:
        return Example(label, f"{x.numel() / data.sample_rate:.2f} s", wav=wav(x.flatten().numpy(), data.sample_rate))
    if x.dim() == 3 and x.shape[0] in (1, 3, 4) and x.dtype == torch.uint8:
        return Example(label, shape, png(opaque(x).numpy()))
    row = ", ".join(f"{number:.4g}" for number in x.flatten()[:NUMBERS].tolist())
    return Example(label, row + (", ..." if x.numel() > NUMBERS else ""))


def _text(x: Tensor, y: Tensor, data: Data, label: str) -> Example:
    """Tokens as they are spelled, else their numbers; beside those of a target that is a text too."""
    names = data.pieces or (data.classes if data.tokens else [])
    if data.pieces and y.dim():
        label = spelling.spelled(y.tolist(), data.classes)
    return Example(label, spelling.spelled(x.tolist(), names, data.tokens) if names else str(x.tolist()))


def opaque(pixels: Tensor) -> Tensor:
    """A picture, uint8 (C, H, W), where it has opacity as a fourth channel before white."""
    if len(pixels) < 4:
        return pixels
    share = pixels[3:].float() / 255
    return (pixels[:3] * share + 255 * (1 - share)).byte()


def png(pixels: np.ndarray) -> bytes:
    """A picture, uint8 (1 or 3, H, W), as a file of that format (W3C, Portable Network Graphics, 2003)."""
    channels, height, width = pixels.shape
    rows = pixels.transpose(1, 2, 0).reshape(height, width * channels)
    body = b"".join(b"\0" + row.tobytes() for row in rows)  # each row says first that it is not filtered
    head = struct.pack(">IIBBBBB", width, height, 8, 0 if channels == 1 else 2, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(body)), (b"IEND", b""))
    chunks = (
        struct.pack(">I", len(part)) + name + part + struct.pack(">I", zlib.crc32(name + part)) for name, part in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def wav(wave: np.ndarray, rate: int) -> bytes:
    """The first SECONDS of a sound (T,), from -1 to 1, as a WAV file of 16 bits."""
    import numpy as np

    body = (np.clip(wave[: int(SECONDS * rate)], -1, 1) * 32767).astype("<i2").tobytes()
    head = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + len(body), b"WAVE", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16,
                       b"data", len(body))  # fmt: skip
    return head + body
