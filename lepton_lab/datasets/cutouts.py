"""
Tux Paint's stamps: pictures of things, cut out.

Legend of the shape comments: N pictures, S pixels a side.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from ..errors import needs
from .base import Data, holds, shuffled
from .files import damaged, fetch

if TYPE_CHECKING:
    import numpy as np

TOPICS, LEAST, SIDE = 12, 10, 32


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
