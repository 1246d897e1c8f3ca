"""
Scenes that are made: handwritten digits pasted on a larger picture, at known places.

Legend of the shape comments: N scenes, S pixels of a side, M digits of a scene.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from .base import Data, holds, shuffled
from .collating import Pad, collated
from .small import _read_digits

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

SIDE = 96
SIZES = (16, 24, 32)  # pixels of a pasted digit's side, each a multiple of the 8 that it has
MOST = 4  # digits of a scene
NOISE = 24  # grey levels, at most, of the ground
INK = 90  # grey levels from which on a pixel is a digit's
CLASSES = ["background", *map(str, range(10))]
BLIND = ("denoising", "diffusion", "contrastive")  # tasks that don't look at targets

Scenes = Annotated[int, Field(ge=10)]


@dataclass
class Made:
    """Some scenes: pictures uint8 (N, S, S), the digit of each pixel uint8 (N, S, S), and boxes by scene."""

    pictures: np.ndarray
    masks: np.ndarray
    boxes: list[np.ndarray]
    """Of each scene (M, 4), left, top, right and bottom of its digits' ink, in pixels."""
    labels: list[np.ndarray]
    """Of each scene (M,), numbers of CLASSES."""


class Boxed:
    """Samples of task='detection': (picture, {"boxes", "labels"}), as torchvision's detectors take them."""

    def __init__(self, pictures: np.ndarray, boxes: list[np.ndarray], labels: list[np.ndarray]) -> None:
        self.pictures, self.boxes, self.labels = pictures, boxes, labels  # (N, C, S, S) uint8; see `Made`

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, place: int) -> tuple[Tensor, dict[str, Tensor]]:
        import torch

        picture = torch.from_numpy(self.pictures[place]).float().div_(255)
        boxes, labels = (torch.from_numpy(part[place]) for part in (self.boxes, self.labels))
        return picture, {"boxes": boxes, "labels": labels}


def boxed(parts: Iterable[Boxed], classes: list[str]) -> Data:
    """Data of training, validation and test samples with boxes."""
    train, val, test = parts
    collate = Pad(bucket=False)
    example = collated(collate, [train[place] for place in range(2)])
    return Data(train, val, test, train.pictures.shape[1:], classes, collate=collate, example=example)


@holds((1, SIDE, SIDE), len(CLASSES), tasks=("detection",), made=True, kind="nest")
def scenes(root: Path, seed: int, *, samples: Scenes = 1000) -> Data:
    """
    Made: scenes of one to four handwritten digits on 96x96 grey pixels, with a box around each (detection).

    The digits are those of `digits`, from its training part for training and from its other parts for validation and
    testing, 16, 24 or 32 pixels wide, on a noisy ground; they do not overlap.

    Data: samples (picture, {"boxes": (M, 4), "labels": (M,)}): the picture float32 (1, 96, 96) from 0 to 1; left, top,
    right and bottom in pixels; labels 1 to 10 of the digits 0 to 9, since 0 is the background, as torchvision has it.

    Parameters
    ----------
    root, seed
        As of every data set; nothing but scikit-learn's digits is read.
    samples
        Scenes in all, at least 10: 80 % for training, 10 % for validation, 10 % for testing.
    """
    parts = _parts(seed, samples)
    return boxed((Boxed(part.pictures[:, None], part.boxes, part.labels) for part in parts), CLASSES)


@holds((1, SIDE, SIDE), len(CLASSES), tasks=("segmentation", *BLIND), made=True)
def scene_masks(root: Path, seed: int, *, samples: Scenes = 500) -> Data:
    """
    Made: the scenes of `scenes`, with the digit that each pixel belongs to (segmentation).

    Data: x uint8 (N, 1, 96, 96); y int64 (N, 96, 96), 0 = background, 1 to 10 = the digits 0 to 9.

    Parameters
    ----------
    root, seed
        As of every data set; nothing but scikit-learn's digits is read.
    samples
        Scenes in all, at least 10: 80 % for training, 10 % for validation, 10 % for testing.
    """
    import torch

    made = _parts(seed, samples)
    train, val, test = (
        (torch.from_numpy(part.pictures)[:, None], torch.from_numpy(part.masks).long()) for part in made
    )
    return Data(train, val, test, shape=(1, SIDE, SIDE), classes=CLASSES)


@holds((1, SIDE, SIDE), 10, tasks=("multilabel", *BLIND), made=True)
def scene_labels(root: Path, seed: int, *, samples: Scenes = 1000) -> Data:
    """
    Made: the scenes of `scenes`, with which of the ten digits are there (multilabel).

    Data: x uint8 (N, 1, 96, 96); y float32 (N, 10), 1 where the digit is in the scene.

    Parameters
    ----------
    root, seed
        As of every data set; nothing but scikit-learn's digits is read.
    samples
        Scenes in all, at least 10: 80 % for training, 10 % for validation, 10 % for testing.
    """
    import torch

    parts = []
    for part in _parts(seed, samples):
        there = torch.zeros(len(part.labels), 10)
        for scene, labels in enumerate(part.labels):
            there[scene, torch.from_numpy(labels) - 1] = 1
        parts.append((torch.from_numpy(part.pictures)[:, None], there))
    train, val, test = parts
    return Data(train, val, test, shape=(1, SIDE, SIDE), classes=CLASSES[1:])


def _parts(seed: int, samples: int) -> list[Made]:
    """Training, validation and test scenes, which share no digit."""
    x, y = _read_digits()
    held = samples // 10
    counts = [samples - 2 * held, held, held]
    dealt = [part.numpy() for part in shuffled(len(x), seed, 0.1, 0.1)]
    return [
        _scenes(x[mine, 0], y[mine], count, (seed, number))
        for number, (mine, count) in enumerate(zip(dealt, counts, strict=True))
    ]


def _scenes(digits: np.ndarray, names: np.ndarray, count: int, seed: tuple[int, int]) -> Made:
    """So many scenes of digits uint8 (D, 8, 8) and what each is (D,)."""
    import numpy as np

    draw = np.random.default_rng(seed)
    pictures = draw.integers(0, NOISE, (count, SIDE, SIDE), dtype=np.uint8)
    made = Made(pictures, np.zeros_like(pictures), [], [])
    for scene in range(count):
        boxes = _pasted(made, scene, digits, names, draw)
        made.boxes.append(np.array([box for box, _ in boxes], np.float32))
        made.labels.append(np.array([label for _, label in boxes], np.int64))
    return made


def _pasted(
    made: Made, scene: int, digits: np.ndarray, names: np.ndarray, draw: np.random.Generator
) -> list[tuple[tuple[int, ...], int]]:
    """Paste one to MOST digits into a scene, where they find room: box and label of each."""
    import numpy as np

    found: list[tuple[tuple[int, ...], int]] = []
    taken = np.zeros((SIDE, SIDE), bool)
    for _ in range(draw.integers(1, MOST + 1)):
        which, size = draw.integers(len(digits)), int(draw.choice(SIZES))
        top, left = draw.integers(0, SIDE - size + 1, 2)
        place = slice(top, top + size), slice(left, left + size)
        if taken[place].any():
            continue
        taken[place] = True
        digit = digits[which].repeat(size // 8, 0).repeat(size // 8, 1)  # (size, size)
        ink, label = digit >= INK, int(names[which]) + 1
        np.maximum(made.pictures[scene][place], digit, out=made.pictures[scene][place])
        made.masks[scene][place][ink] = label
        rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
        box = left + columns[0], top + rows[0], left + columns[-1] + 1, top + rows[-1] + 1
        found.append((tuple(map(int, box)), label))
    return found
