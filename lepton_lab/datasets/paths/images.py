"""
Folders of images: which there are, of which class and part; held in memory, or read as they are asked for.

Legend of the shape comments: N images, C channels, H x W pixels.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from ...errors import needs
from ..base import Data
from . import pixels
from .examples import Example, png
from .files import Files, files, some
from .looking import Look, spread
from .parting import deal
from .reading import Found, Item, Lazy, about, loaded, refuse, remarks

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

KIND = "images"
USUAL = 64  # pixels of a side, where images differ in size and none is asked for
LARGEST = 256  # pixels of a side that is kept unasked
REMEDY = "make a folder for each class, such as photos/cat/1.jpg and photos/dog/2.jpg"
CHECKED = 20_000  # files that are looked into before a start, evenly spread; two seconds
MEASURED = 512  # training images by which pixels are standardised, where not all are in memory


class Seen(Found):
    """The images below a folder."""

    @cached_property
    def sizes(self) -> Counter[tuple[int, int]]:
        """How many are so wide and high."""
        return Counter((head.width, head.height) for head in self.heads.values())

    @cached_property
    def grey(self) -> bool:
        """Whether none has colours."""
        return all(head.grey for head in self.heads.values())

    def shape(self, size: int, colour: str) -> tuple[int, int, int]:
        """C, H and W of a sample."""
        channels = 1 if colour == "grey" or (colour == "auto" and self.grey) else 3
        if size:
            return channels, size, size
        width, height = next(iter(self.sizes))
        alike = len(self.sizes) == 1 and max(width, height) <= LARGEST
        return (channels, height, width) if alike else (channels, USUAL, USUAL)


def look(path: str, *, size: int = 0, fit: str = "crop", colour: str = "auto", unreadable: str = "refuse") -> Look:
    """What a folder of images holds; SpecError as of `images`."""
    found = find(path, unreadable == "skip")
    shape, train = found.shape(size, colour), found.parts["train"]
    counts = Counter(found.classes[label] for items in found.parts.values() for _, label in items)
    facts = {"sizes": _sizes(found, shape)} | ({"checked": found.checked} if found.checked else {})
    facts |= {"other files": f"{len(found.others):,}, passed over: {some(found.others)}"} if found.others else {}
    shown = []
    for file, label in (train[place] for place in spread(len(train))):
        with contextlib.suppress(Exception):  # of a file that only decoding finds to be broken
            seen = pixels.read(file, shape, fit == "crop")
            shown.append(Example(found.classes[label], str(file.relative_to(found.files.folder)), png(seen)))
    return Look(
        name=f"{KIND}:{path}",
        sample=(shape, len(found.classes), 0),
        splits={part: len(items) for part, items in found.parts.items()},
        classes={name: counts[name] for name in found.classes},
        facts=facts,
        unreadable=found.unreadable,
        examples=tuple(shown),
    )


def _sizes(found: Seen, shape: tuple[int, int, int]) -> str:
    """The images' sizes, and what they become."""
    (width, height), count = found.sizes.most_common(1)[0]
    if len(found.sizes) == 1:
        told = f"all {width} x {height} pixels"
    else:
        sides = sorted({side for size in found.sizes for side in size})
        usual = f"most often {width} x {height} ({count:,})"
        told = f"{len(found.sizes):,} of them, of {sides[0]} to {sides[-1]} pixels a side; {usual}"
    scaled = "" if [*found.sizes] == [(shape[2], shape[1])] else f"; scaled to {shape[2]} x {shape[1]}"
    return f"{told}, {'grey' if found.grey else 'in colour'}{scaled}"


def images(
    path: str,
    root: Path,
    seed: int,
    *,
    size: Annotated[int, Field(ge=0, le=4096)] = 0,
    fit: Literal["crop", "stretch"] = "crop",
    colour: Literal["auto", "grey", "rgb"] = "auto",
    unreadable: Literal["refuse", "skip"] = "refuse",
) -> Data:
    """
    A folder of images, with a folder in it for each class, or train, val and test with these in them.

    Files may lie deeper. PNG, JPEG, BMP, GIF (its first picture), WebP, TIFF and PPM are read, by Pillow; transparent
    pixels become white. Without `val` a tenth of `train` is held out, and without any part a tenth for testing too.
    Up to 256 MiB of pixels are held in memory, more are read as they are asked for, by a run's `workers`.

    Data: x uint8 (N, C, H, W); y int64 (N,).

    Parameters
    ----------
    path
        The folder.
    root, seed
        The seed deals out what is held out.
    size
        Pixels of a side that images are scaled to; 0 keeps images as they are that are all of one size of up to 256
        pixels, and takes 64 else.
    fit
        Of images of other proportions, "crop" cuts out the middle, "stretch" scales width and height apart.
    colour
        "grey" or "rgb" makes all so; "auto" is grey where no image has colours.
    unreadable
        What is done with files that can't be read: "refuse" names them, "skip" leaves them out.

    Raises
    ------
    SpecError
        If there are no images, or of one class only, or some can't be read.
    """
    found = find(path, unreadable == "skip")
    shape = found.shape(size, colour)
    parts = {part: Pictures(items, shape, fit == "crop") for part, items in deal(found.parts, seed).items()}
    splits, lost = loaded(parts, KIND, path, unreadable == "skip")
    return Data(
        splits["train"],
        splits.get("val"),
        splits.get("test"),
        shape,
        found.classes,
        *moments(splits["train"]),
        remarks=remarks(found.unreadable | lost),
        about=about(parts, found.files.folder),
    )


images.look = look  # type: ignore[attr-defined]


class Pictures(Lazy):
    """Images that are read as they are asked for: uint8 (C, H, W) and a label."""

    def __init__(self, items: Sequence[Item], shape: tuple[int, int, int], crop: bool) -> None:
        super().__init__(items, shape, "uint8")
        self.form, self.crop = shape, crop

    def read(self, path: Path) -> np.ndarray:
        """The pixels of one, (C, H, W)."""
        return pixels.read(path, self.form, self.crop)


def find(path: str, skip: bool) -> Seen:
    """The images below a folder; SpecError as of `images`."""
    needs(f"dataset='{KIND}:...'", "PIL")
    found = _found(files(KIND, path, folder=True), skip)
    if not skip:
        refuse(KIND, path, found.unreadable)
    return found


@lru_cache(maxsize=8)
def _found(listed: Files, thorough: bool) -> Seen:
    """What lies there; files that have changed are others, by their digest."""
    most = 0 if thorough else CHECKED
    return Seen.of(KIND, listed, "images", pixels.KINDS, pixels.glance, REMEDY, most=most)


def moments(train: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of x / 255 by channel, over the training images, or a spread part of them."""
    import torch

    if isinstance(train, tuple):
        x: Tensor = train[0]
    else:
        x = torch.stack([train[i][0] for i in range(0, len(train), -(-len(train) // MEASURED))])
    channels = x.transpose(0, 1).flatten(1)  # (C, N H W)
    counts = [torch.bincount(channel, minlength=256).double() for channel in channels]  # without a copy in floats
    levels = torch.arange(256, dtype=torch.float64) / 255
    means = [float((count * levels).sum() / count.sum()) for count in counts]
    spreads = [
        float(((count * (levels - mean) ** 2).sum() / count.sum()).sqrt())
        for count, mean in zip(counts, means, strict=True)
    ]
    return tuple(round(mean, 4) for mean in means), tuple(max(round(spread, 4), 1e-3) for spread in spreads)
