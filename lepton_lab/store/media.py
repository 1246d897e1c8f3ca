"""Media that a user's code logs, as files: what is taken, and how each kind is written. Nothing here needs an extra."""

from __future__ import annotations

import io
import json
import math
import struct
import wave
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import SpecError, shown

Array: TypeAlias = NDArray[Any]

TEXT = 64 * 1024  # characters of a text that are kept
BINS = 64  # of a histogram
SAMPLES = "samples"  # what the run itself shows after an evaluation, which its code did not log


class Medium(NamedTuple):
    """A kind of media."""

    ending: str
    """Of its files."""
    mime: str
    """What a page calls them."""
    write: Callable[..., tuple[bytes, dict[str, Any]]]
    """(value, **options) -> the file, and what its row says beside its name."""


def image(pixels: Array) -> tuple[bytes, dict[str, Any]]:
    """
    An image (H, W), (1, H, W) or (3, H, W) as a PNG.

    Whole numbers of 8 bits are taken as they are. Others are black at 0 and white at 1; where values lie beyond these,
    the least is black and the greatest white. What is no finite number is black.
    """
    if pixels.dtype != np.uint8:
        values = pixels.astype(np.float64)
        finite = values[np.isfinite(values)]
        low, high = (finite.min(), finite.max()) if finite.size else (0.0, 1.0)
        if low >= 0 and high <= 1:
            low, high = 0.0, 1.0
        values = (values - low) / ((high - low) or 1.0)
        pixels = np.rint(255 * np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0).clip(0, 1)).astype(np.uint8)
    planes = pixels.reshape(-1, *pixels.shape[-2:])  # (C, H, W)
    return png(planes.transpose(1, 2, 0)), {"width": pixels.shape[-1], "height": pixels.shape[-2]}


def png(pixels: Array) -> bytes:
    """Pixels (H, W, 1) or (H, W, 3) of 8 bits as a PNG (W3C, Portable Network Graphics, third edition, 11)."""
    height, width, channels = pixels.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)], axis=1)  # each without filter

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 0 if channels == 1 else 2, 0, 0, 0)
    body = zlib.compress(rows.tobytes(), 6)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def text(words: str) -> tuple[bytes, dict[str, Any]]:
    """A text, cut where it is long."""
    return words[:TEXT].encode(errors="replace"), {"cut": True} if len(words) > TEXT else {}


def audio(samples: Array, rate: int) -> tuple[bytes, dict[str, Any]]:
    """Samples (T,) or (channels, T) as a WAV of 16 bits: floats from -1 to 1, whole numbers of 16 bits as they are."""
    waves = samples.reshape(-1, samples.shape[-1])  # (channels, T)
    if waves.dtype != np.int16:
        waves = np.rint(32767 * np.nan_to_num(waves.astype(np.float64)).clip(-1, 1)).astype(np.int16)
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(len(waves))
        writer.setsampwidth(2)
        writer.setframerate(rate)
        writer.writeframes(waves.T.astype("<i2").tobytes())
    return file.getvalue(), {"rate": rate, "seconds": round(waves.shape[1] / rate, 4)}


def histogram(values: Array) -> tuple[bytes, dict[str, Any]]:
    """How many of some numbers lie in each of 64 equal intervals: `counts`, and the `edges` of these, as JSON."""
    numbers = values.astype(np.float64).ravel()
    finite = numbers[np.isfinite(numbers)]
    counts, edges = np.histogram(finite, BINS) if finite.size else (np.zeros(1, int), np.array([0.0, 1.0]))
    body = {"edges": [float(f"{edge:.6g}") for edge in edges], "counts": counts.tolist()}
    body["left_out"] = int(numbers.size - finite.size)  # NaN and infinite
    return json.dumps(body).encode(), {"numbers": int(numbers.size)}


def samples(cards: Array) -> tuple[bytes, dict[str, Any]]:
    """Samples as tasks show them, which are JSON already, as bytes (N,)."""
    return cards.tobytes(), {}


MEDIA = {
    "image": Medium(".png", "image/png", image),
    "text": Medium(".txt", "text/plain", text),
    "audio": Medium(".wav", "audio/wav", audio),
    "histogram": Medium(".json", "application/json", histogram),
    SAMPLES: Medium(".samples.json", "application/json", samples),
}


def check_image(name: str, shape: tuple[int, ...]) -> None:
    """Refuse what is no image."""
    if not (len(shape) == 2 or (len(shape) == 3 and shape[0] in (1, 3))) or math.prod(shape) == 0:
        hint = ""
        if len(shape) == 4:
            hint = "; give one of a batch, such as images[0]"
        elif len(shape) == 3 and shape[2] in (1, 3):
            hint = "; bring channels to the front: image.permute(2, 0, 1)"
        raise SpecError(f"log_image({name!r}): shape {shape} must be (H, W), (1, H, W) or (3, H, W){hint}")


def check_audio(name: str, shape: tuple[int, ...], rate: Any) -> None:
    """Refuse what is no sound."""
    if isinstance(rate, bool) or not isinstance(rate, int) or rate < 1:
        raise SpecError(f"log_audio({name!r}): rate={rate!r} must be samples a second, such as 16000")
    if not (len(shape) == 1 or (len(shape) == 2 and shape[0] in (1, 2))) or math.prod(shape) == 0:
        hint = "; give one of a batch, such as waves[0]" if len(shape) > 1 else ""
        raise SpecError(f"log_audio({name!r}): shape {shape} must be (T,), (1, T) or (2, T){hint}")


def check_text(name: str, words: Any) -> None:
    """Refuse what is no text."""
    if not isinstance(words, str):
        raise SpecError(f"log_text({name!r}): {shown(words)} is no text; give str(...) of it")
