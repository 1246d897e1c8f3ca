"""Small tables of measurements that scikit-learn embeds, each a row a patient; read without importing scikit-learn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .base import Data, holds, shuffled
from .small import embedded

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

CANCER_ROWS, CANCER_COLUMNS = 569, 31  # 30 features and a label
DIABETES_ROWS, DIABETES_COLUMNS = 442, 10


@holds((30,), 2, samples=CANCER_ROWS, licence="CC BY 4.0")
def breast_cancer(root: Path, seed: int) -> Data:
    """
    Breast tumours, 569 of two kinds, by 30 measurements of cell nuclei, embedded with scikit-learn (no download).

    Source: W. Wolberg, W. Street and O. Mangasarian, Breast Cancer Wisconsin (Diagnostic), UCI, 1995. There is no
    published test set: 80 % is for training, 10 % for validation, 10 % for testing.

    Data: x float32 (N, 30), standardised by the training part; y int64 (N,), 0 = malignant, 1 = benign.

    Raises
    ------
    SpecError
        If scikit-learn, or its file, is missing or damaged.
    """
    table = embedded(
        "breast_cancer", "breast_cancer.csv", (CANCER_ROWS, CANCER_COLUMNS), delimiter=",", skiprows=1, dtype="float64"
    )
    train, val, test = _split(table[:, :-1], table[:, -1].astype("int64"), seed)
    return Data(train, val, test, (CANCER_COLUMNS - 1,), ["malignant", "benign"])


@holds((10,), 0, samples=DIABETES_ROWS, licence="BSD-3-Clause, with scikit-learn")
def diabetes(root: Path, seed: int) -> Data:
    """
    Diabetes, how far it has gone in a year in 442 patients, by age, sex, body mass index, blood pressure and six sera.

    Source: B. Efron, T. Hastie, I. Johnstone and R. Tibshirani, Least Angle Regression, 2004, as embedded with
    scikit-learn (no download). 80 % is for training, 10 % for validation, 10 % for testing.

    Data: x float32 (N, 10); y float32 (N,), the progression (25 to 346, mean 152); both standardised by the training
    part, so that a mean squared error of 1 is that of always saying the mean.

    Raises
    ------
    SpecError
        If scikit-learn, or one of its files, is missing or damaged.
    """
    x = embedded("diabetes", "diabetes_data_raw.csv.gz", (DIABETES_ROWS, DIABETES_COLUMNS), dtype="float64")
    y = embedded("diabetes", "diabetes_target.csv.gz", (DIABETES_ROWS,), dtype="float64")
    train, val, test = _split(x, y, seed)
    return Data(train, val, test, (DIABETES_COLUMNS,), [])


def _split(x: np.ndarray, y: np.ndarray, seed: int) -> list[tuple[Tensor, Tensor]]:
    """Training, validation and test rows; numbers, but not labels, by mean and deviation of the training part."""
    import torch

    parts = shuffled(len(x), seed, 0.1, 0.1)
    columns = [torch.from_numpy(values) for values in (x, y)]
    columns = [
        ((c - c[parts[0]].mean(0)) / c[parts[0]].std(0)).float() if c.is_floating_point() else c for c in columns
    ]
    return [(columns[0][part], columns[1][part]) for part in parts]
