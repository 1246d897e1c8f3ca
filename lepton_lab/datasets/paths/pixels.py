"""
One image file: whether it can be read, and its pixels as a model takes them. Pillow reads it.

Legend of the shape comments: C channels, H x W pixels.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

KINDS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")
ENDS = {"PNG": b"IEND\xaeB`\x82", "JPEG": b"\xff\xd9", "GIF": b";"}
"""How a whole file ends: one that was cut short lacks it, which is seen without decoding."""
GREY = ("1", "L", "LA", "I", "I;16", "I;16B", "F")
TAIL = 64  # bytes at the end in which that is looked for, since some programs append a few
ORIENTATION = 0x0112  # Exif's tag; from 5 on width and height change places
WHITE = 255


class Glance(NamedTuple):
    """What the beginning and the end of an image file tell."""

    width: int
    height: int
    grey: bool


def glance(source: Path | bytes) -> Glance | str:
    """What a file, or its content, is, or why it can't be read, without decoding it (a tenth of a millisecond)."""
    from PIL import Image

    try:
        with _opened(source) as file, Image.open(file) as image:
            width, height = image.size
            if image.format == "JPEG" and image.getexif().get(ORIENTATION, 1) >= 5:  # of a PNG it would decode all
                width, height = height, width
            end = ENDS.get(image.format or "", b"")
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
            if end not in file.read() and not (image.format == "JPEG" and _whole(image)):
                return "cut short"
            return Glance(width, height, image.mode in GREY)
    except Exception as error:  # decoders raise whatever a wrong byte leads them to
        return why(error)


def _whole(image: Image) -> bool:
    """Whether all pixels of a JPEG are there: telephones put a film behind a photo's end."""
    try:
        image.load()
    except Exception:  # decoders raise whatever a wrong byte leads them to
        return False
    return True


def why(error: Exception) -> str:
    """Why an image can't be read, in a few words."""
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return "no image that Pillow knows"
    text = " ".join(str(error).split())
    return (text[:1].lower() + text[1:80]) or type(error).__name__


def _opened(source: Path | bytes) -> IO[bytes]:
    return source.open("rb") if isinstance(source, Path) else io.BytesIO(source)


def read(source: Path | bytes, shape: tuple[int, int, int], crop: bool) -> np.ndarray:
    """
    The pixels of a file, or of its content, uint8 (C, H, W), scaled to a shape.

    Parameters
    ----------
    shape
        C (1 or 3), H and W.
    crop
        Whether the middle is cut out of an image of other proportions; else it is stretched.
    """
    import numpy as np
    from PIL import Image, ImageOps

    channels, height, width = shape
    with _opened(source) as file, Image.open(file) as image:
        if image.format == "JPEG":
            image.draft(None, (2 * width, 2 * height))  # decodes a fraction of a large photo, several times as fast
        flat = _flat(ImageOps.exif_transpose(image), "L" if channels == 1 else "RGB")
    if flat.size != (width, height):
        flat = ImageOps.fit(flat, (width, height)) if crop else flat.resize((width, height), Image.Resampling.BICUBIC)
    pixels = np.asarray(flat)  # (H, W) or (H, W, C)
    return pixels[None] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _flat(image: Image, mode: str) -> Image:
    """An image in grey or colours of 8 bits, on white where it is transparent."""
    from PIL import Image as images

    if image.mode.startswith("I"):  # 16 bits, which Pillow would cut off at 255
        image = image.convert("I").point(lambda value: value / 257).convert("L")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = images.alpha_composite(images.new("RGBA", image.size, (WHITE,) * 4), image)
    return image if image.mode == mode else image.convert(mode)
