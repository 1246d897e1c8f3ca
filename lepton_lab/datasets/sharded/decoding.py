"""Parts of samples by their extension: pictures, sounds, arrays, labels, texts."""

from __future__ import annotations

import io
import json
import wave
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ...errors import needs

if TYPE_CHECKING:
    import numpy as np

LABEL = "cls"
PICTURES = ("png", "jpg", "jpeg", "bmp", "gif", "ppm", "pgm", "tif", "tiff", "webp")


class Unreadable(Exception):
    """A part that can't be decoded; the message says why."""


def decode(part: str, body: memoryview) -> Any:
    """What a part holds, by its last extension; bytes of an unknown one."""
    kind = part.rpartition(".")[2]
    decoder = DECODERS.get(kind)
    try:
        return decoder(body) if decoder else bytes(body)
    except (ImportError, Unreadable):
        raise
    except Exception as error:
        raise Unreadable(f"its {part} can't be read: {' '.join(str(error).split()) or type(error).__name__}") from None


def named(part: str) -> str:
    """The name of a leaf: `input_ids.npy` is input_ids, and `png` itself."""
    return part.rpartition(".")[0] or part


def pair(parts: Mapping[str, Any]) -> tuple[str, str] | None:
    """Which parts are x and y of a sample that is a pair: `.cls` and another one, or `x.*` and `y.*`; else None."""
    if len(parts) != 2:
        return None
    names = {named(part): part for part in parts}
    if LABEL in names:
        return next(part for part in parts if part != names[LABEL]), names[LABEL]
    return (names["x"], names["y"]) if set(names) == {"x", "y"} else None


def sample(values: dict[str, Any]) -> Any:
    """A sample of leaves by name: a pair of x and a dict where they are `x` and `y.*`."""
    rest = {name[2:]: value for name, value in values.items() if name.startswith("y.")}
    return (values["x"], rest) if "x" in values and rest and len(rest) == len(values) - 1 else values


def picture(body: memoryview) -> np.ndarray:
    """Pixels uint8 (C, H, W): grey has one channel, all else three."""
    needs("pictures in shards", "PIL")
    import numpy as np
    from PIL import Image

    with Image.open(io.BytesIO(body)) as image:
        grey = image.mode in ("1", "L", "LA")
        pixels = np.array(image.convert("L" if grey else "RGB"))
    return pixels[None] if grey else pixels.transpose(2, 0, 1)


def array(body: memoryview) -> np.ndarray:
    """A `.npy`, in place: no byte is copied."""
    import numpy as np

    wide = 4 if body[6] > 1 else 2
    begin = 8 + wide + int.from_bytes(body[8 : 8 + wide], "little")
    dtype, fortran, shape = _header(bytes(body[:begin]))
    values = np.frombuffer(body, dtype, offset=begin)
    return values.reshape(shape, order="F" if fortran else "C")


@lru_cache(maxsize=64)
def _header(head: bytes) -> tuple[np.dtype[Any], bool, tuple[int, ...]]:
    import numpy as np

    file = io.BytesIO(head)
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if dtype.hasobject:
        raise Unreadable("its .npy holds Python objects, which could run code")
    return dtype, fortran, shape


def sound(body: memoryview) -> np.ndarray:
    """A `.wav` of 8, 16 or 32 bits as float32 from -1 to 1: (T,), or (channels, T) of several."""
    import numpy as np

    with wave.open(io.BytesIO(body)) as file:
        width, channels, frames = file.getsampwidth(), file.getnchannels(), file.readframes(file.getnframes())
    if width not in (1, 2, 4):
        raise Unreadable(f"its .wav has {8 * width} bits a sample, where 8, 16 and 32 are read")
    values = np.frombuffer(frames, f"<{'u' if width == 1 else 'i'}{width}").astype(np.float32)
    values = (values - (128 if width == 1 else 0)) / 2 ** (8 * width - 1)
    return values if channels == 1 else values.reshape(-1, channels).T.copy()


def rate(part: str, body: memoryview) -> int:
    """Samples a second of a sound; 0 of what is none."""
    if part.rpartition(".")[2] != "wav":
        return 0
    with wave.open(io.BytesIO(body)) as file:
        return file.getframerate()


DECODERS: dict[str, Callable[[memoryview], Any]] = {
    **dict.fromkeys(PICTURES, picture),
    LABEL: lambda body: int(bytes(body)),
    "npy": array,
    "wav": sound,
    "txt": lambda body: str(body, "utf-8"),
    "text": lambda body: str(body, "utf-8"),
    "json": lambda body: json.loads(bytes(body)),
}
"""By extension, as WebDataset names them."""
