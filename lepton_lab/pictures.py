"""
What there is to see of a sample, and of what a model made of it: said by tasks, kept as JSON, drawn by charts.

Each kind of view is bounded, so that a page of many stays small. Legend of the shape comments: C channels, H x W
pixels, T samples of a sound.
"""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

SIDE = 96  # pixels of a picture's longer side
RATE = 8000  # samples of a sound a second
SECONDS = 1.5  # of a sound
POINTS = 160  # of a curve
LINES = 4  # of curves in one view
LETTERS = 480  # of a text
NAMED = 60  # letters of a name
BARS = 6
BOXES = 20
NAMES = 8  # of classes of one mask
TRUTH = "truth"  # what that is called in all pictures

Piece: TypeAlias = tuple[str, bool | None]
"""Words, and whether they are right; None where that is not asked."""
Corners: TypeAlias = tuple[float, float, float, float]
"""Left, top, right and bottom, in pixels."""


@dataclass(frozen=True)
class Text:
    """Words in pieces, each of which may be right or wrong."""

    kind: ClassVar[str] = "text"
    pieces: Sequence[Piece]

    def plain(self) -> dict[str, Any]:
        """The first letters, with pieces that are marked alike put together."""
        joined: list[list[Any]] = []
        left = LETTERS
        for words, right in self.pieces:
            if left <= 0:
                joined.append(["…", None])
                break
            words, left = words[:left], left - len(words)
            if joined and joined[-1][1] is right:
                joined[-1][0] += words
            else:
                joined.append([words, right])
        return {"pieces": joined}


@dataclass(frozen=True)
class Image:
    """
    A picture (H, W), (1, H, W) or (3, H, W); black is 0 and white 1, or the least and the greatest value beyond these.

    `boxes` are what is really there, `found` what the model says: corners and a name of each.
    """

    kind: ClassVar[str] = "image"
    pixels: Tensor
    boxes: Sequence[tuple[Corners, str]] = ()
    found: Sequence[tuple[Corners, str]] = ()

    def plain(self) -> dict[str, Any]:
        """8 bits a pixel, (H, W, C), at most SIDE wide and high; boxes as fractions of both."""
        import torch

        values = self.pixels.detach().float().cpu().reshape(-1, *self.pixels.shape[-2:])  # (C, H, W)
        height, width = values.shape[-2:]
        if (shrink := max(height, width) / SIDE) > 1:
            size = (max(1, round(height / shrink)), max(1, round(width / shrink)))
            values = torch.nn.functional.adaptive_avg_pool2d(values[None], size)[0]
        values = torch.nan_to_num(values, 0.0, 0.0, 0.0)
        low, high = min(0.0, float(values.min())), float(values.max())
        high = 1.0 if low == 0 and high <= 1 else high
        body = ((values - low) / ((high - low) or 1.0) * 255).round().byte().permute(1, 2, 0)
        sides = (width, height, width, height)
        boxes = {
            name: [
                [[round(float(at) / side, 4) for at, side in zip(corners, sides, strict=True)], short(words)]
                for corners, words in many[:BOXES]
            ]
            for name, many in (("boxes", self.boxes), ("found", self.found))
            if many
        }
        return {**packed(body.contiguous().numpy()), **boxes}


@dataclass(frozen=True)
class Mask:
    """A class of each pixel, (H, W), and what the classes are called, by their numbers."""

    kind: ClassVar[str] = "mask"
    classes: Tensor
    names: Sequence[str] = ()

    def plain(self) -> dict[str, Any]:
        """Every k-th pixel in both directions; what is no class is 255. And the names of the first classes in it."""
        every = -(-max(self.classes.shape) // SIDE)
        classes = self.classes[::every, ::every].detach().cpu()
        classes = classes.where((classes >= 0) & (classes < 255), 255).byte()
        seen = [number for number in classes.unique().tolist() if number < len(self.names)][:NAMES]
        names = {"names": {str(number): short(self.names[number]) for number in seen}} if seen else {}
        return {**packed(classes.contiguous().numpy()), **names}


@dataclass(frozen=True)
class Sound:
    """Samples (T,), from -1 to 1, or larger ones that are then scaled; so many a second."""

    kind: ClassVar[str] = "sound"
    wave: Tensor
    rate: int

    def plain(self) -> dict[str, Any]:
        """16 bits a sample: the first SECONDS, at a rate that was divided until it is at most RATE."""
        import torch

        every = -(-self.rate // RATE)
        wave = self.wave.detach().float().cpu().reshape(-1)[: int(SECONDS * self.rate)]
        wave = wave if len(wave) else torch.zeros(1)  # since a player takes no empty sound
        if every > 1 and len(wave) >= every:
            wave = torch.nn.functional.avg_pool1d(wave[None, None], every)[0, 0]
        wave = torch.nan_to_num(wave, 0.0, 0.0, 0.0)
        wave = wave / max(1.0, float(wave.abs().max()))
        return {**packed((32767 * wave).round().short().numpy()), "rate": max(1, self.rate // every)}


@dataclass(frozen=True)
class Curves:
    """Numbers along one axis, several by name over one another."""

    kind: ClassVar[str] = "curves"
    lines: Mapping[str, Tensor]

    def plain(self) -> dict[str, Any]:
        """At most POINTS of each, as means of as many neighbours; None of what is no number."""
        import torch

        points = {}
        for name, values in [*self.lines.items()][:LINES]:
            values = values.detach().float().cpu().reshape(-1)
            if len(values) > POINTS:
                values = torch.nn.functional.adaptive_avg_pool1d(values[None, None], POINTS)[0, 0]
            points[short(name)] = [float(f"{value:.4g}") if math.isfinite(value) else None for value in values.tolist()]
        return {"lines": points}


@dataclass(frozen=True)
class Bars:
    """Fractions, each with its name and whether it is of what is really so; the first are the ones to see."""

    kind: ClassVar[str] = "bars"
    values: Sequence[tuple[str, float, bool]]

    def plain(self) -> dict[str, Any]:
        """The first BARS."""
        return {"bars": [[short(name), round(value, 4), true] for name, value, true in self.values[:BARS]]}


View: TypeAlias = Text | Image | Mask | Sound | Curves | Bars
Picture: TypeAlias = Mapping[str, View]
"""What is seen of a sample, by what it is: "given", TRUTH, "predicted"."""


def words(text: Any, right: bool | None = None) -> Text:
    """A text of one piece."""
    return Text([(str(text), right)])


def short(name: str) -> str:
    """A name of at most NAMED letters."""
    return name if len(name) <= NAMED else name[: NAMED - 1] + "…"


def plain(picture: Picture) -> list[dict[str, Any]]:
    """A picture as JSON has it."""
    return [{"name": short(name), "kind": view.kind, **view.plain()} for name, view in picture.items()]


def packed(values: np.ndarray) -> dict[str, Any]:
    """Whole numbers as text: their shape, and their bytes, compressed, in base64."""
    return {"shape": list(values.shape), "data": base64.b64encode(zlib.compress(values.tobytes(), 6)).decode()}


def unpacked(packed: Mapping[str, Any], dtype: str) -> np.ndarray:
    """The whole numbers again; a ValueError where they are not what `packed` gives within bounds."""
    import numpy as np

    shape = [int(side) for side in packed["shape"]]
    size = np.dtype(dtype).itemsize * math.prod(shape)
    if not 0 < size <= 2**20:
        raise ValueError(f"a view of shape {shape}")
    body = zlib.decompressobj().decompress(base64.b64decode(packed["data"]), size)
    return np.frombuffer(body, dtype).reshape(shape)
