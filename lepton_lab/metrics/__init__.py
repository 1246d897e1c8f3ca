"""
METRICS: what is counted of a model's answers. A member is a class in a file of its own, and a line in the table.

Nothing else spells a metric's name: rows of events carry it, and every view asks the table what it means.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .accuracy import Accuracy
from .base import Metric
from .bits import BitsPerByte
from .confusion import Confusion
from .loss import Loss

if TYPE_CHECKING:
    from torch import Tensor

    from ..datasets import Data
    from ..losses import Criterion, Objective

__all__ = ["METRICS", "Metric", "counted", "curves", "judges", "main", "of", "steps", "with_following"]

METRICS: dict[str, type[Metric]] = {
    "loss": Loss,
    "accuracy": Accuracy,
    "bits_per_byte": BitsPerByte,
    "confusion": Confusion,
}
"""The first is what training minimises."""


def of(data: Data, criterion: Criterion) -> dict[str, Metric]:
    """The metrics that have a meaning for some data and a loss, by name."""
    made = {name: member.of(data, criterion) for name, member in METRICS.items()}
    return {name: metric for name, metric in made.items() if metric is not None}


def steps() -> list[str]:
    """Names of what each step of training is told in: what is minimised, then what is counted beside it."""
    return [name for name, member in METRICS.items() if member.training]


def counted(data: Data, objective: Objective) -> Objective:
    """An objective that counts, beside its loss, what `steps` names."""
    made = [METRICS[name].of(data, objective.criterion) for name in steps()[1:]]
    objective.counted = [_meaningless if metric is None else metric.share for metric in made]
    return objective


def curves() -> dict[str, type[Metric]]:
    """Those of which a figure is one number, which can be drawn over steps."""
    return {name: member for name, member in METRICS.items() if member.curve}


def judges() -> list[str]:
    """Names of those that tell which model is better, the most telling first."""
    return sorted(curves(), key=lambda name: not METRICS[name].higher)


def main() -> str:
    """The one that a view with room for one shows: the first of the table of which more is better."""
    return judges()[0]


def with_following(metrics: dict[str, Metric], split: str, figures: dict[str, Any]) -> dict[str, Any]:
    """Figures of a split, and those that follow from them."""
    following = {name: metric.follow(split, figures) for name, metric in metrics.items()}
    return figures | {name: figure for name, figure in following.items() if figure is not None}


def _meaningless(output: Tensor, target: Tensor) -> None:
    """Of data that a metric has no meaning for."""
