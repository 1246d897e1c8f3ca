"""How the engine minimises a task's loss: as a sum over what its batches weigh."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..answers import matches
from ..batches import Batch
from ..losses import exact
from ..objectives import Criterion

if TYPE_CHECKING:
    from torch import Tensor

    from ..datasets import Data
    from .base import OwnLoss, Task
    from .routine import Outcome


class Scored(Criterion):
    """A task's own loss of outputs and a whole batch."""

    def __init__(self, task: Task, total: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__(task.loss, None, total)
        self.task: Task = task
        self.weights = task.weights
        self.even, self._masked = False, True
        self._ahead = task.weighs

    @property
    def kind(self) -> str:  # type: ignore[override]  # known once the task has seen the model
        """What answers are, as the task says."""
        return self.task.answers

    @property
    def ignored(self) -> int:
        """As the task says."""
        return self.task.ignored

    @property
    def entropy(self) -> bool:
        """Whether it is the model's own loss of tokens."""
        return self.task.given is None and self.kind == "tokens"

    def last(self, target: Tensor) -> bool:
        """Of texts (B, T), whose scores are (B, T, K); those of pictures (B, H, W) are (B, K, H, W)."""
        return self.axis == "last" if self.axis else target.dim() == 2

    def __call__(self, output: Any, target: Any) -> Tensor:
        """Outputs and a batch -> what they add to the step's loss, as a mean over its samples."""
        if not self._ahead:
            value = self.value(output, target)
            return self._part(*value) if isinstance(value, tuple) else value
        total, weight = _weighed(self.value(output, target), self.batch.samples)
        if self._mean_weight is None:
            return total / weight
        return total / (self._mean_weight.to(total.dtype) * self.batch.samples)

    def parts(self, output: Any, batch: Batch) -> tuple[Tensor, Tensor]:
        """The loss of a batch by itself, as its sum and its weight."""
        self.batch = batch
        return _parts(self.value(output, batch.y), batch.samples)

    def tally(self, target: Any) -> tuple[Tensor, Tensor]:
        """What a batch weighs, and how many of its targets count."""
        import torch

        weight, targets = self.task.weight(target), self.task.targets(target)
        assert weight is not None  # else they are not known before
        counted = isinstance(targets, torch.Tensor)
        return weight.double(), self.answers(targets) if counted else torch.zeros_like(weight, dtype=torch.float64)

    def scores(self, output: Any) -> Any:
        """As the task says."""
        return self.task.scores(output)

    def compared(self, output: Any, target: Any) -> tuple[Any, Any] | None:
        """Scores and targets."""
        scores, targets = self.task.scores(output), self.task.targets(target)
        return None if scores is None or targets is None else (scores, targets)

    def decoded(self, output: Any, target: Any) -> tuple[Any, Any] | None:
        """What the model made, and what it is to be like; else as `compared`."""
        return self.task.made(output, target) or self.compared(output, target)

    def each(self, output: Tensor, target: Tensor) -> Tensor:
        """The loss of each sample by itself, (B,), as far as the task knows it."""
        return self.task.each(output, target)

    def answers(self, target: Tensor) -> Tensor:
        """How many targets count."""
        return target.ne(self.task.ignored).sum().double()

    def hits(self, output: Tensor, target: Tensor) -> Tensor | None:
        """How many of them are right."""
        right = matches(output, target, tokens=self.last(target)) if hasattr(target, "is_floating_point") else None
        return None if right is None else (right & target.ne(self.task.ignored)).sum()


class Stepped(Scored):
    """The losses that a task's own step gives, by itself or in the turns of its players."""

    def __call__(self, output: Any, target: Any) -> Tensor:
        """The loss of who plays, for each sample of a micro-batch."""
        (value,) = output.losses
        return self._part(*value) if isinstance(value, tuple) else value

    def parts(self, output: Outcome, batch: Batch) -> tuple[Tensor, Tensor]:
        """The loss of a batch by itself, as its sum and its weight; of several players the sum of their means."""
        if len(output.losses) == 1:
            return self.part(output, batch, 0)
        parts = [self.part(output, batch, i) for i in range(len(output.losses))]
        means = [total.double() / weight for total, weight in parts]
        return sum(means[1:], means[0]) * batch.samples, means[0].new_tensor(batch.samples)

    def part(self, output: Outcome, batch: Batch, player: int) -> tuple[Tensor, Tensor]:
        """A player's loss, as its sum and its weight."""
        return _parts(output.losses[player], batch.samples)

    def compared(self, output: Outcome, target: Any) -> tuple[Any, Any] | None:
        """What the model gave, if it was called as a whole, and targets."""
        return None if output.outputs is None else super().compared(output.outputs, target)

    def decoded(self, output: Outcome, target: Any) -> tuple[Any, Any] | None:
        """What a player made, and what it is to be like; else as `compared`."""
        return self.task.made(output.parts, target) or self.compared(output, target)


class Unaligned(Criterion):
    """
    A loss of outputs and targets that go not one by one.

    `each`, where it is given, tells the loss of each sample (B,) of both.
    """

    def __init__(
        self,
        loss: OwnLoss,
        data: Data | None = None,
        total: Callable[[Tensor], Tensor] | None = None,
        each: Callable[[Any, Any], Tensor] | None = None,
    ) -> None:
        super().__init__(loss, data, total)
        self._each = each

    def each(self, output: Any, target: Any) -> Tensor:
        """The loss of each sample by itself, (B,), as far as it is known."""
        return super().each(output, target) if self._each is None else self._each(output, target)

    def compared(self, output: Any, target: Any) -> None:
        """Nothing."""
        return None


def _weighed(value: Any, samples: int) -> tuple[Tensor, Any]:
    """A loss as its sum and its weight, where it may be a mean over samples."""
    return value if isinstance(value, tuple) else (value * samples, samples)


def _parts(value: Any, samples: int) -> tuple[Tensor, Tensor]:
    """The same, with the weight as a tensor (), in float64, beside the sum."""
    total, weight = _weighed(value, samples)
    return total, exact(weight, total)
