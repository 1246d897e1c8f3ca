"""CIFAR-10: the published pickles, read without executing what they hold."""

from __future__ import annotations

import io
import pickle
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .base import Data, holds, images
from .files import damaged, fetch, untar

if TYPE_CHECKING:
    import numpy as np

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
SHAPE = (3, 32, 32)
ROW = 3 * 32 * 32
BATCHES = [f"data_batch_{i}" for i in range(1, 6)]


@holds(SHAPE, len(CLASSES), samples=60_000)
def cifar10(root: Path, seed: int) -> Data:
    """
    Objects in ten classes, 32x32 colour, 50,000 + 10,000 images (CIFAR-10).

    Source: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009. Looked for in
    `root/cifar-10-batches-py` (as torchvision lays it) and `root/cifar-10-python.tar.gz`, else downloaded.

    Data: x uint8 (N, 3, 32, 32); y int64 (N,).

    Raises
    ------
    SpecError
        If a file is damaged, holds anything but arrays, or is missing and can't be downloaded.
    """
    import numpy as np

    paths = fetch("cifar10", root)
    parts = {file: read_batch(contents, paths[file]) for file, contents in _contents(paths)}
    x = np.concatenate([parts[file][0] for file in BATCHES])
    y = np.concatenate([parts.pop(file)[1] for file in BATCHES])
    return images((x, y), parts["test_batch"], seed, CLASSES, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))


def read_batch(contents: bytes, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """
    Images, uint8 (N, 3, 32, 32), and labels, int64 (N,), of one pickled batch, which came from a file at `path`.

    Only arrays, lists, text and numbers are built from the pickle; anything else is refused unexecuted. A SpecError
    says that it is cut short, asks for code to run, or holds anything but a CIFAR-10 batch.
    """
    import numpy as np

    try:
        batch = _ArraysOnly(io.BytesIO(contents), encoding="latin1").load()
        if missing := [name for name in ("data", "labels") if name not in batch]:
            raise ValueError(f"it holds no {' and no '.join(map(repr, missing))}, which every CIFAR-10 batch does")
        x, y = np.asarray(batch["data"]), np.asarray(batch["labels"], dtype=np.int64)
    except Exception as error:  # a damaged pickle raises almost anything
        raise damaged(path, str(error) or type(error).__name__) from None
    if x.dtype != np.uint8 or x.ndim != 2 or x.shape[1] != ROW or y.shape != x.shape[:1] or not len(x):
        raise damaged(path, f"it holds {x.dtype} {x.shape} with {y.size} labels, not uint8 (N, {ROW}) with N labels")
    if y.min() < 0 or y.max() >= len(CLASSES):
        raise damaged(path, f"its labels run from {y.min()} to {y.max()}, not from 0 to {len(CLASSES) - 1}")
    return x.reshape(-1, *SHAPE), y


class _ArraysOnly(pickle.Unpickler):
    """Builds numpy arrays and plain values; a pickle is a program, and this one may call nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        import numpy as np

        reconstruct = np.empty(0).__reduce__()[0]
        allowed = {
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
            ("numpy.core.multiarray", "_reconstruct"): reconstruct,  # as NumPy 1 wrote it, and CIFAR-10 is published
            ("numpy._core.multiarray", "_reconstruct"): reconstruct,
        }
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"it asks to run {module}.{name}, which no data file needs to (not run)")
        return allowed[module, name]


def _contents(paths: dict[str, Path]) -> Iterator[tuple[str, bytes]]:
    """Bytes of each batch, from its own file or from the archive, which is read once; one batch in memory at a time."""
    for path in dict.fromkeys(paths.values()):
        files = {file for file, place in paths.items() if place == path}
        try:
            if path.suffix == ".gz":
                with path.open("rb") as handle:
                    yield from untar(handle, files)
            else:
                yield files.pop(), path.read_bytes()
        except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
            raise damaged(path, str(error)) from None


def glance(path: Path) -> None:
    """Refuse a batch, or the archive, by its first and last bytes alone."""
    try:
        with path.open("rb") as handle:
            first = handle.read(2)
            handle.seek(-1, io.SEEK_END)
            whole = first == b"\x1f\x8b" if path.suffix == ".gz" else handle.read() == pickle.STOP
    except OSError as error:
        raise damaged(path, str(error)) from None
    if not whole:
        raise damaged(path, "it is cut short, or no such file at all")
