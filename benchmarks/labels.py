"""Label errors planted on MNIST: what of them is found, and what is flagged that was not planted."""

from __future__ import annotations

from dataclasses import replace
from statistics import mean

import numpy as np
import torch

import lepton_lab as lab
from lepton_lab import datasets
from lepton_lab.errors import LabError

from .rows import Row

TITLE = "2 % of MNIST's training labels changed to another class at random, three folds of two epochs"
FRACTION = 0.02
SPEC = lab.Spec(
    dataset="mnist", model="mnist_cnn", epochs=2, batch_size=128, lr=1e-2, schedule="one_cycle", eval_every=0
)


def measure(quick: bool) -> list[Row]:
    """Rows over seeds, which choose split, weights and what is planted; none without MNIST."""
    try:
        found = [once(seed) for seed in range(1 if quick else 3)]
    except LabError:
        return []
    precision, recall, estimate = zip(*found, strict=True)
    return [
        Row("precision of what is flagged", precision, "", at_least=0.93, middle=mean),
        Row("recall of what was planted", recall, "", at_least=0.95, middle=mean),
        Row("estimated number of errors, of the planted", estimate, "", middle=mean),
    ]


def once(seed: int) -> tuple[float, float, float]:
    """Precision, recall and estimated number over that of the planted, by one seed."""
    spec = SPEC.replace(seed=seed)
    data = datasets.load(spec)
    assert isinstance(data.train, tuple), "MNIST is held as tensors"
    x, y = data.train
    draw = np.random.default_rng(seed)
    labels, n = y.numpy().copy(), len(y)
    wrong = draw.choice(n, round(FRACTION * n), replace=False)
    labels[wrong] = (labels[wrong] + draw.integers(1, 10, len(wrong))) % 10
    data = replace(data, train=(x, torch.from_numpy(labels)))
    errors = lab.find_label_errors(spec, data=(data.train, data.val, data.test))
    if errors.wait() != ["done"] * len(errors.runs):
        raise RuntimeError(str([run.failure for run in errors.runs]))
    hits = np.isin(errors.samples, wrong).sum()
    return hits / len(errors.samples), hits / len(wrong), errors.fraction * n / len(wrong)
