"""The pictures of a run that are explained, and its models as functions of a picture alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..answers import labels
from ..artifacts.asking import prepared
from ..batches import call
from ..batches import rows as part
from ..datasets import length, rows
from ..engine.feed import by_itself
from ..errors import LabError, SpecError

if TYPE_CHECKING:
    from ..run.handle import Run
    from ..tasks import Task


@dataclass(frozen=True)
class Pictures:
    """The samples that are explained."""

    numbers: list[int]
    """Their places in the split."""
    raw: Tensor
    """(N, *shape), as the data have them."""
    x: Tensor
    """(N, *shape), as the model takes them."""
    y: Tensor
    """Labels (N,)."""
    black: Tensor
    """A black picture (1, *shape), as the model takes it."""
    task: Task | None = None
    """Where the model is called with more than the picture."""
    question: Any = None
    """With what, then: a batch of these samples."""
    name: Any = field(default=None)
    """The picture's name or place in it."""

    def asking(self, module: nn.Module, place: int | None = None) -> nn.Module:
        """A module as a function of pictures (B, *shape) alone: of all these samples, or of one with its own others."""
        if self.task is None:
            return module
        index = torch.arange(len(self.numbers)) if place is None else torch.tensor([place])
        return Asked(module, self.task, part(self.question, index, len(self.numbers)), self.name)


class Asked(nn.Module):
    """What a model scores of pictures, where all else that it is called with stays."""

    def __init__(self, module: nn.Module, task: Task, question: Any, name: Any) -> None:
        super().__init__()
        self.module = module
        self._task, self._question, self._name = task, question, name

    def forward(self, x: Tensor) -> Tensor:
        """(B, *shape) -> (B, K); where there is one of the others it goes with all pictures."""
        other = {name: _spread(value, len(x)) for name, value in _named(self._question).items()}
        other[self._name] = x
        whole = other if isinstance(self._question, Mapping) else tuple(other.values())
        return self._task.scores(call(self.module, whole))


def of_pair(run: Run, data: Any, count: int, seed: int) -> Pictures:
    """Some samples of the test set, else of the validation set, drawn by `seed`; of a model that takes them alone."""
    split: Any = data.test if data.test is not None else data.val
    numbers = _drawn(run, split, count, seed)
    raw, targets = rows(split, numbers)
    # The black picture goes through the feed with the others, so that it is scaled as they are.
    samples = torch.cat([raw, torch.zeros_like(raw[:1])]), labels(torch.cat([targets, targets[:1]]))
    batches = [(batch.x, batch.y) for batch in by_itself(samples, data, run.spec).whole()]
    x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
    return Pictures(numbers, raw, x[:-1], y[:-1], x[-1:])


def of_task(run: Run, task: Task, module: nn.Module, count: int, seed: int) -> Pictures:
    """The same of a model that is called with names or several tensors, one of which is a picture."""
    data = task.data
    split: Any = data.test if data.test is not None else data.val
    what = f"run {run.id!r}, on {run.spec.dataset!r},"
    if task.steps():
        raise LabError(f"{what} has a step of its own, which alone knows how its model is called: explain can't ask it")
    if split is None:
        raise LabError(f"{what} has neither test nor validation samples to explain; launch it with data=(train, test)")
    task.setup(module)
    numbers = _drawn(run, split, count, seed)
    samples = [(split[0][i], split[1][i]) if isinstance(split, tuple) else split[i] for i in numbers]
    batch = prepared(task, data, samples, task.prepares and task.everywhere)
    question, y = task.question(batch), task.targets(batch)
    named = _named(question) if isinstance(question, (Mapping, tuple)) else {}
    pictures = [name for name, value in named.items() if _is_picture(value)]
    if len(pictures) != 1 or not isinstance(y, Tensor) or y.dim() != 1 or y.is_floating_point():
        takes = ", ".join(map(str, named)) or type(question).__name__
        raise LabError(
            f"{what} is called with {takes}: explain draws on one picture (B, channels, height, width) among these, "
            "and needs one label a sample; take a run that tells pictures apart"
        )
    x = named[pictures[0]]
    return Pictures(numbers, x, x, y, torch.zeros_like(x[:1]), task, question, pictures[0])


def _drawn(run: Run, split: Any, count: int, seed: int) -> list[int]:
    n = length(split)
    if count > n:
        raise SpecError(f"samples={count}: run {run.id!r} has {n} test samples; take at most as many")
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))[:count].tolist()


def _named(question: Any) -> dict[Any, Any]:
    return dict(question) if isinstance(question, Mapping) else dict(enumerate(question))


def _is_picture(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and value.dim() == 4


def _spread(value: Any, count: int) -> Any:
    """One row for each of so many pictures, where there is one."""
    return value.expand(count, *value.shape[1:]) if isinstance(value, Tensor) and len(value) == 1 else value
