"""Data sets that need no files of their own: `digits`, which scikit-learn embeds, and `blobs`, which is made up."""

from __future__ import annotations

import importlib.util
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from ..errors import SpecError
from .base import Data, holds, shuffled, take

if TYPE_CHECKING:
    import numpy as np

DIGITS_ROWS, DIGITS_COLUMNS = 1797, 65  # 8 x 8 pixels and a label
DIGITS_LEVEL = 15  # a published pixel is 0..16; times 15 it fills the range of a uint8 and stays exact
# Over all published pixels / 16 x 240 / 255, so the same for every seed.
DIGITS_MEAN, DIGITS_STD = (0.2873,), (0.3539,)


@holds((1, 8, 8), 10, samples=1797, licence="CC BY 4.0")
def digits(root: Path, seed: int) -> Data:
    """
    Handwritten digits, 8x8 grey, 1,797 images, embedded with scikit-learn (no download).

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998. There is no published
    test set: 80 % is for training, 10 % for validation, 10 % for testing. scikit-learn's file is read without
    importing scikit-learn, which would cost a second.

    Data: x uint8 (N, 1, 8, 8) of 0, 15, ..., 240; y int64 (N,).

    Raises
    ------
    SpecError
        If scikit-learn, or its file, is missing or damaged.
    """
    x, y = _read_digits()
    train, val, test = (take(x, y, part) for part in shuffled(len(x), seed, 0.1, 0.1))
    return Data(train, val, test, (1, 8, 8), [str(digit) for digit in range(10)], DIGITS_MEAN, DIGITS_STD)


def _read_digits() -> tuple[np.ndarray, np.ndarray]:
    import numpy as np

    table = embedded("digits", "digits.csv.gz", (DIGITS_ROWS, DIGITS_COLUMNS), delimiter=",", dtype="uint8")
    return (table[:, :-1] * np.uint8(DIGITS_LEVEL)).reshape(-1, 1, 8, 8), table[:, -1]


def embedded(dataset: str, file: str, shape: tuple[int, ...], **form: Any) -> np.ndarray:
    """
    A table of numbers in one of scikit-learn's files, which must have a shape; `form` as `numpy.loadtxt` takes it.

    scikit-learn itself, or the file, that is missing or damaged is a SpecError.
    """
    import numpy as np

    package = importlib.util.find_spec("sklearn")
    if package is None or package.origin is None:
        raise SpecError(
            f"dataset={dataset!r}: comes with scikit-learn, which is not installed; pip install scikit-learn"
        )
    path = Path(package.origin).parent / "datasets" / "data" / file
    try:
        table = np.loadtxt(path, **form)
    except (OSError, EOFError, zlib.error, ValueError):
        table = np.empty(0)
    if table.shape != shape:
        raise SpecError(
            f"dataset={dataset!r}: {path} is missing or damaged; pip install --force-reinstall scikit-learn"
        )
    return table


@holds((2,), 3, made=True)
def blobs(
    root: Path,
    seed: int,
    *,
    samples: Annotated[int, Field(ge=10)] = 1000,
    features: Annotated[int, Field(ge=1)] = 2,
    classes: Annotated[int, Field(ge=2)] = 3,
    spread: Annotated[float, Field(gt=0)] = 1.0,
) -> Data:
    """
    Made: Gaussian clusters, one a class, float features for quick trials.

    Data: x float32 (N, features), standardised by the training part; y int64 (N,).

    Parameters
    ----------
    root, seed
        As of every data set; nothing is read, and centres and points are drawn from the seed too.
    samples
        Points in all, at least 10: 80 % for training, 10 % for validation, 10 % for testing.
    features
        Numbers in a point, at least 1.
    classes
        Clusters, at least 2.
    spread
        Standard deviation of a cluster, above 0; the centres are drawn with a standard deviation of 5.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    centres = 5 * torch.randn(classes, features, generator=generator)
    y = torch.arange(samples) % classes
    x = centres[y] + spread * torch.randn(samples, features, generator=generator)  # (samples, features)
    parts = shuffled(samples, seed, 0.1, 0.1)
    x = (x - x[parts[0]].mean(0)) / x[parts[0]].std(0)
    train, val, test = ((x[part], y[part]) for part in parts)
    return Data(train, val, test, (features,), [str(label) for label in range(classes)])
