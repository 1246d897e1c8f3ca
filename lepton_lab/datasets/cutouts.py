"""
Tux Paint's stamps: pictures of things, cut out.

Legend of the shape comments: N pictures, S pixels a side, M things in one of them.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from ..errors import needs
from .base import Data, holds, shuffled
from .files import damaged, fetch
from .scenes import SIDE as WIDE
from .scenes import Boxed, Scenes, boxed

if TYPE_CHECKING:
    import numpy as np

TOPICS, LEAST, SIDE = 12, 10, 32
KINDS = ["birds", "chess", "clothes", "fish", "flowers", "fruit", "mammals", "roadsigns", "tools", "vegetables"]
"""Folders of which each has things of one kind, 11 to 35, most of them cut out of photos."""
UNSEEN = 0.25  # of the cut-outs: are in test scenes alone
SMALLEST, LARGEST, MOST = 28, 52, 3  # pixels of a thing's longer side in a scene, and things of a scene
OPAQUE = 128  # of 255, from which on a pixel is a thing's


@holds((4, SIDE, SIDE), TOPICS, samples=773)
def tuxpaint(root: Path, seed: int, *, size: Annotated[int, Field(ge=8, le=256)] = SIDE) -> Data:
    """
    Things cut out of photos and drawings, 773 in 12 topics that have at least ten: animals, food, vehicles, ... (RGBA).

    Source: B. Kendrick and contributors, Tux Paint Stamps 2022.06.04, as Debian ships them. Looked for in
    `root/tuxpaint/stamps`, a folder a topic, else read from the archive of `tuxpaint-stamps-default` (161 MB), which
    `apt-get download` brings without root's rights. `pictures` gives the files, which lie by topic and kind.

    Data: x uint8 (N, 4, size, size), red, green, blue and opacity; y int64 (N,), the topic.

    Parameters
    ----------
    root, seed
        As of every data set; a tenth each is held out for validation and for testing.
    size
        Pixels a side, from 8 to 256: a picture is scaled to fit, in the middle of a transparent square.

    Raises
    ------
    SpecError
        If a file is damaged, or missing and can't be had.
    Missing
        If Pillow is not installed.
    """
    import numpy as np
    import torch

    needs("dataset='tuxpaint'", "PIL")
    paths = pictures(root)
    counts = Counter(topic for topic, _ in paths)
    classes = [topic for topic, count in counts.items() if count >= LEAST]
    found = [(classes.index(topic), path) for topic, path in paths if topic in classes]
    x = torch.from_numpy(np.stack([read(path, size) for _, path in found]))
    y = torch.tensor([label for label, _ in found])
    train, val, test = ((x[part], y[part]) for part in shuffled(len(y), seed, 0.1, 0.1))
    return Data(train, val, test, (4, size, size), classes)


@holds((3, WIDE, WIDE), len(KINDS) + 1, tasks=("detection",), kind="nest")
def cutout_scenes(root: Path, seed: int, *, samples: Scenes = 2000) -> Data:
    """
    Scenes of one to three things of ten kinds of `tuxpaint` on coloured ground, 96x96, with boxes (detection).

    Validation scenes show the cut-outs that training scenes show, at other places and in other sizes. Test scenes show
    a quarter of the cut-outs that are in no other: so the two figures tell what is known by heart and what was learnt.

    Data: samples (picture, {"boxes": (M, 4), "labels": (M,)}): the picture float32 (3, 96, 96) from 0 to 1; left, top,
    right and bottom in pixels; labels from 1 on, since 0 is the background, as torchvision has it.

    Parameters
    ----------
    root, seed
        As of every data set; files are those of `tuxpaint`.
    samples
        Scenes in all, at least 10: 80 % for training, 10 % for validation, 10 % for testing.

    Raises
    ------
    SpecError
        If a file is damaged, or missing and can't be had.
    Missing
        If Pillow is not installed.
    """
    import numpy as np

    needs("dataset='cutout_scenes'", "PIL")
    paths = [path for _, path in pictures(root) if path.parent.name in KINDS]
    if len(paths) < LEAST:
        raise damaged(root / "tuxpaint", f"it has {len(paths)} pictures in folders named {', '.join(KINDS)}")
    things = np.stack([read(path, LARGEST) for path in paths])
    kinds = np.array([KINDS.index(path.parent.name) for path in paths])
    known, unseen = (part.numpy() for part in shuffled(len(things), seed, UNSEEN))
    held = samples // 10
    dealt = ((known, samples - 2 * held), (known, held), (unseen, held))
    parts = [_scenes(things[m], kinds[m], count, (seed, number)) for number, (m, count) in enumerate(dealt)]
    return boxed(parts, ["background", *KINDS])


def _scenes(things: np.ndarray, kinds: np.ndarray, count: int, seed: tuple[int, int]) -> Boxed:
    """So many scenes of things uint8 (N, 4, S, S) and their kinds (N,)."""
    import numpy as np

    draw = np.random.default_rng(seed)
    pictures, boxes, labels = np.empty((count, 3, WIDE, WIDE), np.uint8), [], []
    for picture in pictures:
        picture[:] = _scaled(draw.integers(0, 256, (3, 3, 3), dtype=np.uint8), WIDE)  # nine colours that run together
        chosen = draw.integers(len(things), size=draw.integers(1, MOST + 1))
        taken = np.zeros((WIDE, WIDE), bool)
        places = [_pasted(picture, taken, things[which], draw) for which in chosen]
        there = [(box, kinds[which] + 1) for box, which in zip(places, chosen, strict=True) if box]
        boxes.append(np.array([box for box, _ in there], np.float32).reshape(-1, 4))
        labels.append(np.array([label for _, label in there], np.int64))
    return Boxed(pictures, boxes, labels)


def _pasted(picture: np.ndarray, taken: np.ndarray, thing: np.ndarray, draw: np.random.Generator) -> tuple[int, ...]:
    """Paste a thing (4, S, S) in some size at some place: its box, or () where it found no room."""
    import numpy as np

    size = int(draw.integers(SMALLEST, LARGEST + 1))
    thing = _scaled(thing, size)
    top, left = (int(place) for place in draw.integers(0, WIDE - size + 1, 2))
    ink = thing[3] >= OPAQUE
    rows, columns = (np.flatnonzero(ink.any(axis)) for axis in (1, 0))
    place = slice(top, top + size), slice(left, left + size)
    if not ink.any() or (taken[place] & ink).any():
        return ()
    box = left + columns[0], top + rows[0], left + columns[-1] + 1, top + rows[-1] + 1
    taken[box[1] : box[3], box[0] : box[2]] = True
    opacity = thing[3] / 255
    picture[:, place[0], place[1]] = opacity * thing[:3] + (1 - opacity) * picture[:, place[0], place[1]]
    return tuple(map(int, box))


def _scaled(planes: np.ndarray, size: int) -> np.ndarray:
    """Planes (C, S, S) of bytes in another size."""
    import torch
    from torch.nn.functional import interpolate

    wide = interpolate(torch.from_numpy(planes)[None].float(), (size, size), mode="bilinear", antialias=True)
    return wide[0].round().byte().numpy()


def pictures(root: Path) -> list[tuple[str, Path]]:
    """Topic and file of each cut-out, by name; 796 in all."""
    folder = fetch("tuxpaint", root)["stamps"]
    glance(folder)
    return [(path.relative_to(folder).parts[0], path) for path in sorted(folder.rglob("*.png"))]


def read(path: Path, size: int) -> np.ndarray:
    """A picture with its opacity, uint8 (4, size, size): scaled to fit, in the middle of a transparent square."""
    import numpy as np
    from PIL import Image

    try:
        with Image.open(path) as file:
            picture = file.convert("RGBA").convert("RGBa")  # so that transparent pixels lend no colour when scaled
    except Exception as error:  # decoders raise whatever a wrong byte leads them to
        raise damaged(path, " ".join(str(error).split()) or type(error).__name__) from None
    scale = size / max(picture.size)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    square = Image.new("RGBa", (size, size))
    square.paste(
        picture.resize((width, height), Image.Resampling.BILINEAR), ((size - width) // 2, (size - height) // 2)
    )
    return np.asarray(square.convert("RGBA")).transpose(2, 0, 1).copy()


def glance(path: Path) -> None:
    """Refuse what is no folder of topics."""
    if not any(path.glob("*/**/*.png")):
        raise damaged(path, "it is no folder with a folder of pictures (*.png) for each topic")
