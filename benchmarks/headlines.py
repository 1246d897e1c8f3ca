"""Figures that articles tell of small models, beside runs of as many epochs that anyone can repeat; over seeds."""

from __future__ import annotations

from collections.abc import Callable
from statistics import mean
from typing import TYPE_CHECKING, Any

from torch import nn

from .rows import Row

if TYPE_CHECKING:
    from lepton_lab import Run

TITLE = "Accuracy in as many epochs as articles take: means over seeds (least to most)"
SEEDS = 3
TWO: dict[str, Any] = {"world": 2, "batch_size": 100, "schedule": "one_cycle", "lr": 4e-3}
SHIFTED = [{"flip": {"alternate": True}}, {"crop": {"padding": 2, "fill": "reflect"}}]


class OneConvolution(nn.Sequential):
    """One convolution of MNIST, and a dense layer."""

    def __init__(self) -> None:
        convolution = nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()
        super().__init__(*convolution, nn.Linear(32 * 13 * 13, 128), nn.ReLU(), nn.Linear(128, 10))


class ThreeConvolutions(nn.Sequential):
    """Convolutions 32-64-64 of CIFAR-10, and a dense layer of 64: 122,570 parameters."""

    def __init__(self) -> None:
        first = nn.Conv2d(3, 32, 3), nn.ReLU(), nn.MaxPool2d(2)
        second = nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2)
        third = nn.Conv2d(64, 64, 3), nn.ReLU(), nn.Flatten()
        super().__init__(*first, *second, *third, nn.Linear(64 * 4 * 4, 64), nn.ReLU(), nn.Linear(64, 10))


def measure(quick: bool) -> list[Row]:
    """Rows of what was reached; a data set that is not at hand has none, since a benchmark downloads nothing."""
    import lepton_lab as lab

    seeds = range(1 if quick else SEEDS)
    rows: list[Row] = []
    if _at_hand("mnist"):
        pair = [
            _trained(lab.Spec(dataset="mnist", epochs=10, seed=seed, **TWO), model=OneConvolution) for seed in seeds
        ]
        what = "MNIST, one convolution, 10 epochs of batch 100, two ranks:"
        rows.append(_row(f"{what} training accuracy", pair, _of("train", "accuracy"), at_least=0.9877))
        rows.append(_row(f"{what} training loss", pair, _of("train", "loss"), at_most=0.0123))
        rows.append(_row(f"{what} test accuracy", pair, _of("test", "accuracy")))
        spec = lab.Spec(dataset="mnist", model="mlp", batch_size=100, epochs=5)
        short = [_trained(spec.replace(seed=seed), data=_first(seed)) for seed in seeds]
        what = "MNIST, MLP 784-128-10, 5 epochs of 100 steps of batch 100: test accuracy"
        rows.append(_row(what, short, _of("test", "accuracy"), at_least=0.7333))
    if _at_hand("cifar10"):
        spec = lab.Spec(
            dataset="cifar10", epochs=10, transforms=SHIFTED, precision="auto", **(TWO | {"batch_size": 128})
        )
        loss = nn.CrossEntropyLoss(label_smoothing=0.05)
        runs = [_trained(spec.replace(seed=seed), model=ThreeConvolutions, loss=loss) for seed in seeds]
        what = "CIFAR-10, convolutions 32-64-64, flips and shifts, 10 epochs of batch 128, two ranks: test accuracy"
        rows.append(_row(what, runs, _of("test", "accuracy"), at_least=0.76))
    return rows


def _trained(spec: Any, **own: Any) -> Run:
    import lepton_lab as lab

    run = lab.launch(spec, **own)
    if run.wait() != "done":
        raise RuntimeError(f"{run} {run.failure or ''}")
    return run


def _first(seed: int) -> Any:
    """100 steps' worth of MNIST to train on, and its other sets."""
    import lepton_lab as lab
    from lepton_lab import datasets

    data = datasets.load(lab.Spec(dataset="mnist", seed=seed))
    x, y = data.train
    return (x[:10_000], y[:10_000]), data.val, data.test


def _of(split: str, name: str) -> Callable[[Run], float]:
    """A figure of the last evaluation of a split."""
    return lambda run: float([row[name] for row in run.rows("eval") if row["split"] == split][-1])


def _row(what: str, runs: list[Run], figure: Callable[[Run], float], **target: float) -> Row:
    return Row(what, [figure(run) for run in runs], "", middle=mean, **target)  # type: ignore[arg-type]


def _at_hand(name: str) -> bool:
    """Whether all files of a data set are there."""
    from lepton_lab.datasets import SOURCES
    from lepton_lab.datasets.files import find
    from lepton_lab.files import data_root

    return all(find(name, data_root(), file) for file in SOURCES[name].files())
