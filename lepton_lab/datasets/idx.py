"""MNIST and Fashion-MNIST: the IDX files of LeCun, Cortes and Burges, gzipped or unpacked."""

from __future__ import annotations

import os
import zlib
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from .base import Data, holds, images
from .files import damaged, fetch

if TYPE_CHECKING:
    import numpy as np

UBYTE = 8  # third byte of the magic number: the elements are unsigned bytes; the fourth is the number of dimensions
PIXELS = (28, 28)
FASHION = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]


@holds((1, *PIXELS), 10, samples=70_000)
def mnist(root: Path, seed: int) -> Data:
    """
    Handwritten digits, 28x28 grey, 60,000 + 10,000 images (MNIST).

    Source: LeCun, Cortes, Burges, The MNIST Database of Handwritten Digits. Files are looked for in
    `root/MNIST/raw`, where torchvision puts them too, and downloaded if they are not there.

    Data: x uint8 (N, 1, 28, 28); y int64 (N,).

    Raises
    ------
    SpecError
        If a file is damaged, or missing and can't be downloaded.
    """
    return _read("mnist", root, seed, [str(digit) for digit in range(10)], (0.1307,), (0.3081,))


@holds((1, *PIXELS), 10, samples=70_000)
def fashion_mnist(root: Path, seed: int) -> Data:
    """
    Articles of clothing, 28x28 grey, 60,000 + 10,000 images (Fashion-MNIST).

    Source: Xiao, Rasul, Vollgraf, arXiv:1708.07747. Looked for in `root/FashionMNIST/raw`; in all else like `mnist`.
    """
    return _read("fashion_mnist", root, seed, FASHION, (0.2860,), (0.3530,))


def read_idx(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """
    The array in an IDX file of unsigned bytes, uint8 (N, *shape); `shape` is () for labels.

    A file is gzipped if its name ends in .gz; else it is mapped, so that processes share its pages. One that can't be
    read, is cut short, or holds anything else is a SpecError.
    """
    sizes, start, end = _layout(path, shape)
    raw = _first(path, end + 1)
    if len(raw) != end:
        raise damaged(path, f"it holds {'more' if len(raw) > end else 'less'} than the {sizes} its header says")
    return raw[start:].reshape(sizes)


def glance(path: Path) -> None:
    """Refuse a published file of images or labels by its header and its length alone, in well under a millisecond."""
    *_, end = _layout(path, PIXELS if "images" in path.name else ())
    length = path.stat().st_size
    if path.suffix == ".gz":  # the last four bytes of a gzip file: length of what it holds
        with path.open("rb") as handle:
            handle.seek(-4, os.SEEK_END)
            length = int.from_bytes(handle.read(), "little")
    if length != end:
        raise damaged(path, f"it should hold {end:,} bytes, and its end says {length:,}")


def _layout(path: Path, shape: tuple[int, ...]) -> tuple[tuple[int, ...], int, int]:
    """
    Dimensions of the array in an IDX file, and the bytes at which it starts and ends.

    The header is two zero bytes, type, number of dimensions, then 4 bytes big-endian for each.
    """
    start = 8 + 4 * len(shape)
    header = _first(path, start).tobytes()
    if len(header) < start:
        raise damaged(path, f"it ends after {len(header)} bytes, within its header")
    if header[:4] != bytes([0, 0, UBYTE, 1 + len(shape)]):
        raise damaged(path, f"it starts with bytes {header[:4].hex(' ')}, which no such IDX file does")
    sizes = tuple(int.from_bytes(header[i : i + 4], "big") for i in range(4, len(header), 4))
    if sizes[1:] != shape or sizes[0] == 0:
        raise damaged(path, f"its header says {sizes}, not samples of shape {shape}")
    return sizes, start, start + prod(sizes)


def _first(path: Path, count: int) -> np.ndarray:
    """The first `count` bytes of what a file holds, or all if it holds less; never unpacks more."""
    import numpy as np

    try:
        if path.suffix != ".gz":
            return np.asarray(np.memmap(path, np.uint8, mode="r"))[:count]
        with path.open("rb") as handle:
            packed = handle.read(count + count // 1000 + 4096)  # deflate never needs more to give `count` bytes
        stream = zlib.decompressobj(wbits=31)
        raw = stream.decompress(packed, count)
        if len(raw) < count and not stream.eof:  # at its end zlib has also compared the file's own checksum
            raise ValueError("its gzip stream is cut short")
    except (OSError, ValueError, zlib.error) as error:
        raise damaged(path, str(error)) from None
    return np.frombuffer(raw, np.uint8)


def _read(name: str, root: Path, seed: int, classes: list[str], mean: tuple[float], std: tuple[float]) -> Data:
    paths = fetch(name, root)
    parts = []
    for part in ("train", "t10k"):
        x_path, y_path = paths[f"{part}-images-idx3-ubyte"], paths[f"{part}-labels-idx1-ubyte"]
        x, y = read_idx(x_path, PIXELS), read_idx(y_path, ())
        if len(x) != len(y):
            raise damaged(y_path, f"it holds {len(y):,} labels for the {len(x):,} images of {x_path.name}")
        if y.max() >= len(classes):
            raise damaged(y_path, f"it holds label {y.max()}, and there are {len(classes)} classes")
        parts.append((x[:, None], y))  # (N, 1, 28, 28), (N,)
    return images(parts[0], parts[1], seed, classes, mean, std)
