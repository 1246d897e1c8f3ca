"""What a model said of each sample, as it was kept when its run ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ..answers import class_axis
from ..errors import LabError
from ..metrics import SPLITS
from .viewing import Viewed

if TYPE_CHECKING:
    import pandas as pd

    from ..store.folder import RunFolder


@dataclass(frozen=True, repr=False)
class Predictions(Viewed):
    """
    Of the samples of a split that were kept; all of them, unless there are too many.

    Legend of the shape comments: N samples.
    """

    run: RunFolder
    """Whose they are."""
    split: str
    """"test" or "val"."""
    samples: np.ndarray
    """Their places in the split, (N,)."""
    scores: np.ndarray
    """What the model gave, (N, ...), float32; (N, 0) where its outputs were of no one shape, or too wide to keep."""
    targets: np.ndarray
    """Labels as whole numbers, or numbers, (N, ...); (N, 0) as scores."""
    losses: np.ndarray
    """The loss of each by itself, (N,); NaN where the loss only gives a mean."""
    classes: list[str] = field(default_factory=list)
    """Names of the labels; empty where there are none."""

    def __repr__(self) -> str:
        return f"<Predictions of {len(self):,} samples of the {SPLITS[self.split]} set, run {self.run.id}>"

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def labels(self) -> np.ndarray:
        """The class of the highest score, in the targets' shape; what the model gave where that is no class."""
        whole = np.issubdtype(self.targets.dtype, np.integer)
        axis = class_axis(self.scores.shape, self.targets.shape, tokens=self.targets.ndim == 2) if whole else None
        return self.scores if axis is None else self.scores.argmax(axis)

    def worst(self, count: int = 10) -> pd.DataFrame:
        """The samples with the highest losses, that first: sample, loss, target and, of classes, what was predicted."""
        import pandas as pd

        if np.isnan(self.losses).all():
            raise LabError("the loss of each sample is not known: the run's loss gives one number for a whole batch")
        order = np.argsort(-np.nan_to_num(self.losses, nan=-np.inf), kind="stable")[:count]
        table = pd.DataFrame({"sample": self.samples[order], "loss": self.losses[order]})
        for name, values in (("target", self.targets), ("predicted", self.labels)):
            if values.ndim == 1:
                table[name] = [self._named(value) for value in values[order]]
        return table

    def _named(self, value: np.generic) -> str | float:
        whole = np.issubdtype(type(value), np.integer)
        return self.classes[int(value)] if whole and 0 <= int(value) < len(self.classes) else value.item()


def of(folder: RunFolder, split: str) -> Predictions:
    """Those of a run; a LabError says why there are none."""
    path = folder.path / "predictions" / f"{split}.npz"
    if not path.exists():
        splits = sorted(other.stem for other in path.parent.glob("*.npz"))
        why = (
            f"there are those of {', '.join(splits)}"
            if splits
            else (
                "they are kept of the test set when a run is done, where its outputs are tensors of one shape a sample "
                "or the loss of each is known"
            )
        )
        raise LabError(f"run {folder.id!r} has no predictions of {split!r}: {why}")
    with np.load(path, allow_pickle=False) as arrays:
        values = {name: arrays[name] for name in arrays.files}
    return Predictions(folder, split, **values, classes=[str(name) for name in folder.facts.get("classes", [])])
