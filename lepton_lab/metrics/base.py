"""What a metric says of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

    from ..batches import Batch
    from ..datasets import Data
    from ..losses import Criterion


class Metric:
    """
    A figure of how well a model answers: what is summed over batches and ranks, and what finishes the sums.

    Legend of the shape comments: B samples, S sums.

    Parameters
    ----------
    data
        The splits.
    criterion
        What training minimises, by which targets count.
    """

    title = ""
    """What it is called above a chart and in tables."""
    short = ""
    """The same where room is scarce."""
    axis = ""
    """Label of its axis, with the unit."""
    form = ".4g"
    """How a figure of it is printed."""
    higher = True
    """Whether more is better."""
    highest: float | None = None
    """The best that can be, where a chart's axis ends."""
    digits = 6
    """Significant digits in a step's row."""
    splits: tuple[str, ...] = ("train", "val", "test")
    """Those that it is found for."""
    training = False
    """Whether each training step reports it, by `share`."""
    curve = True
    """Whether a figure is one number; else it is a table."""
    shown = True
    """Whether views show it; else it is in the rows alone."""

    def __init__(self, data: Data, criterion: Criterion) -> None:
        self.criterion = criterion

    @classmethod
    def of(cls, data: Data, criterion: Criterion) -> Metric | None:
        """The metric, where it has a meaning for the data and what is minimised."""
        return cls(data, criterion)

    def update(self, output: Tensor, target: Tensor) -> Tensor | None:
        """
        What a batch adds: outputs (B, ...) and targets (B, ...) -> sums (S,) in float64, on their device.

        None where outputs like these have no such figure. Called in evaluations; must not wait for the device.
        """
        return None

    def add(self, output: Any, batch: Batch) -> Tensor | None:
        """As `update`, of what the model gave for a batch, whatever its form."""
        pair = self.criterion.compared(output, batch.y)
        return None if pair is None else self.update(*pair)

    def finish(self, sums: Tensor) -> Any:
        """The figure, of the sums (S,) over all batches and ranks."""
        raise NotImplementedError

    def over(self, answers: Iterable[tuple[Tensor, Tensor]]) -> Any:
        """The figure of outputs (B, ...) and targets (B, ...), batch by batch; None where outputs have none."""
        total: Any = 0
        for output, target in answers:
            if (sums := self.update(output, target)) is None:
                return None
            total = total + sums
        return self.finish(total)

    def share(self, output: Tensor, target: Tensor) -> Tensor | None:
        """
        What a micro-batch of training adds, as one number: the figure times its samples.

        None where outputs like these have no such figure. It must not wait for the device.
        """
        raise NotImplementedError

    def follow(self, split: str, figures: dict[str, Any]) -> Any:
        """The figure of a split where it follows from others, and nothing of its own is counted; else None."""
        return None

    @classmethod
    def word(cls) -> str:
        """The title within a sentence."""
        return cls.title if cls.title.isupper() else cls.title.lower()

    @classmethod
    def unit(cls) -> str:
        """ "%" of a fraction that is printed so, else ""."""
        return "%" if cls.form.endswith("%") else ""

    @classmethod
    def text(cls, figure: float) -> str:
        """A figure as people read it."""
        return f"{figure:{cls.form}}"
