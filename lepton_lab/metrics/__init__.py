"""
METRICS: what is counted of a model's answers. A member is a class in a file of its own, and a line in the table.

Nothing else spells a metric's name: rows of events carry it, and every view asks the table what it means.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ..watched import EMA
from .accuracy import Accuracy
from .base import Metric
from .bits import BitsPerByte
from .confusion import Confusion
from .loss import Loss

if TYPE_CHECKING:
    from ..datasets import Data
    from ..losses import Criterion, Objective

__all__ = ["MEASURED", "METRICS", "MINIMISED", "SPLITS", "Figure", "Metric", "counted", "curves", "figures", "judges"]
__all__ += ["main", "of", "shown", "steps", "summarised", "tables", "text", "with_following"]

METRICS: dict[str, type[Metric]] = {
    "loss": Loss,
    "accuracy": Accuracy,
    "bits_per_byte": BitsPerByte,
    "confusion": Confusion,
}
MINIMISED = "loss"
"""What training minimises."""
MEASURED = "accuracy"
"""What the answers of a file are judged by: a field of `Measured`, and of what is kept of it."""
SPLITS = {"train": "training", "val": "validation", "test": "test"}
"""What people call each split."""
SPLITS |= {f"{split}{EMA}": f"EMA {SPLITS[split]}" for split in ("val", "test")}


class Figure(NamedTuple):
    """A metric of a split, or of the newest batch."""

    name: str
    split: str = ""
    """One of SPLITS, of which those that end in EMA are of the averaged weights; or "" for the newest batch."""

    @property
    def key(self) -> str:
        """What summaries and curves call it, such as `val_loss`."""
        return f"{self.split}_{self.name}" if self.split else self.name

    @property
    def metric(self) -> type[Metric]:
        """What it is a figure of."""
        return METRICS[self.name]

    @property
    def averaged(self) -> bool:
        """Whether it is one of the averaged weights."""
        return self.split.endswith(EMA)

    @property
    def label(self) -> str:
        """What people call it, such as `validation loss`."""
        return f"{SPLITS[self.split or 'train']} {self.metric.word()}"


def of(data: Data, criterion: Criterion) -> dict[str, Metric]:
    """The metrics that have a meaning for some data and a loss, by name."""
    metrics = {name: member.of(data, criterion) for name, member in METRICS.items()}
    return {name: metric for name, metric in metrics.items() if metric is not None}


def steps() -> list[str]:
    """Names of the metrics that each training step reports: what is minimised, then what is counted beside it."""
    return [MINIMISED, *(name for name, member in METRICS.items() if member.training and name != MINIMISED)]


def counted(data: Data, objective: Objective) -> Objective:
    """An objective that counts, beside its loss, what `steps` names."""
    metrics = [METRICS[name].of(data, objective.criterion) for name in steps()[1:]]
    objective.counted = [metric.share if metric else lambda output, target: None for metric in metrics]
    return objective


def curves() -> dict[str, type[Metric]]:
    """Those of which a figure is one number, which can be drawn over steps."""
    return {name: member for name, member in METRICS.items() if member.curve}


def shown() -> list[str]:
    """Names of those that views draw over steps, and have a column for."""
    return [name for name, member in curves().items() if member.shown]


def tables() -> list[str]:
    """Names of those of which a figure is a table."""
    return [name for name, member in METRICS.items() if not member.curve]


def judges() -> list[str]:
    """Names of those that tell which model is better, the most telling first."""
    return sorted(shown(), key=lambda name: not METRICS[name].higher)


def main() -> str:
    """The one that a view with room for one shows: the first of the table of which more is better."""
    return judges()[0]


def figures(*splits: str, names: list[str] | None = None) -> dict[str, Figure]:
    """Figures of some splits by key; of all that are shown, where no names are given."""
    chosen = [Figure(name, split) for split in splits for name in (shown() if names is None else names)]
    return {figure.key: figure for figure in chosen}


def summarised() -> dict[str, Figure]:
    """
    Figures in a table of runs: the newest batch's, the last validation's, and of the test what should be high.

    The same of the averaged weights come last, which few runs have.
    """
    high = [name for name in shown() if METRICS[name].higher]
    averaged = figures(f"val{EMA}") | figures(f"test{EMA}", names=high)
    return figures("", names=steps()) | figures("val") | figures("test", names=high) | averaged


def text(key: str, figure: float) -> str:
    """A figure as people read it, by its key."""
    return figures("", *SPLITS, names=[*curves()])[key].metric.text(figure)


def with_following(metrics: dict[str, Metric], split: str, figures: dict[str, Any]) -> dict[str, Any]:
    """Figures of a split, and those that follow from them."""
    following = {name: metric.follow(split, figures) for name, metric in metrics.items()}
    return figures | {name: figure for name, figure in following.items() if figure is not None}
