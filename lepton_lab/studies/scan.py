"""What a changed model still does on real samples of a run, by the metric of its task."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from .. import metrics
from ..artifacts.asking import posed
from ..batches import Batch, rows
from ..datasets import length
from ..engine.feed import by_itself
from ..errors import SpecError
from ..measures import judging
from ..measures.candidates import run_data, run_task
from ..metrics import MEASURED, MINIMISED

if TYPE_CHECKING:
    from torch import nn

    from ..run.handle import Run
    from ..tasks import Task


@dataclass(frozen=True)
class Scan:
    """Samples of a run as its model takes them, and the metric that models are judged by on them."""

    task: Task
    batches: list[Batch]
    metric: str
    whole: float
    """The figure of the model as it is."""

    @property
    def samples(self) -> int:
        """How many there are."""
        return sum(batch.samples for batch in self.batches)

    def example(self) -> Any:
        """Two samples as the model is called with them, without what only a loss needs."""
        first = self.batches[0]
        if self.task.takes_raw:
            return rows(first.x, torch.arange(min(2, first.samples)), first.samples)
        return posed(self.task, range(min(2, length(self.task.data.train))))

    def judged(self, module: nn.Module) -> float:
        """The metric's figure of a module in eval mode; NaN where it has none."""
        return _figures(module, self.task, self.batches, [self.metric]).get(self.metric, math.nan)


def of_run(run: Run, module: nn.Module, count: int) -> Scan:
    """At most so many samples of a run's validation set, else of its test set; SpecError where none can be judged."""
    data = run_data(run)
    part = data.val if data.val is not None else data.test
    if part is None:
        raise SpecError(
            f"run {run.id!r} has neither validation nor test samples: how good answers are can't be measured"
        )
    task = run_task(run, data)
    if task.steps():
        raise SpecError(
            f"run {run.id!r}: its task has a step of its own, which alone knows how its model is called, so nothing is "
            "scanned; give its task `inputs` and `loss` in place of `step`"
        )
    task.setup(module)
    feed = by_itself(part, task.data, run.spec, task)
    batches = _cut([*itertools.islice(feed.whole(), -(-count // feed.eval_batch))], count)
    feed.close()
    names = metrics.telling(task.data, task.criterion(), task.metrics)
    names = [MEASURED, *names] if task.takes_raw else names
    figures = _figures(module, task, batches, names)
    name = next((name for name in names if math.isfinite(figures.get(name, math.nan))), "")
    if not name:
        raise SpecError(f"run {run.id!r}: no metric tells how good its model's answers are, so nothing is scanned")
    return Scan(task, batches, name, figures[name])


def _figures(module: nn.Module, task: Task, batches: list[Batch], names: list[str]) -> dict[str, float]:
    """Figures of some metrics of the table, those that there are."""
    counted = metrics.of(task.data, task.criterion(), usual=names)
    counted = {name: metric for name, metric in counted.items() if name in (*names, MINIMISED)}
    with torch.no_grad():
        pairs = ((task.evaluated(module, batch.x), batch) for batch in batches)
        return judging.counted(counted, pairs)[0]


def _cut(batches: list[Batch], count: int) -> list[Batch]:
    """The first so many samples."""
    left, taken = count, []
    for batch in batches:
        if batch.samples > left:
            index = torch.arange(left)
            x, y = (rows(part, index, batch.samples) for part in (batch.x, batch.y))
            batch = Batch(x, y, batch.share, left)
        taken.append(batch)
        left -= batch.samples
    return taken
