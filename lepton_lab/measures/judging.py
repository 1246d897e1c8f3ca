"""How good the answers of a candidate are on real samples, by the metric of the task that its model was trained for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import metrics, tasks
from ..artifacts.checking import taken
from ..batches import Batch, over
from ..datasets import Data, from_user, length
from ..errors import LabError, SpecError
from ..metrics import MINIMISED, Metric
from ..metrics.base import flat
from ..spec import Spec
from ..tasks import TASKS, Task
from .candidates import run_task

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from torch import nn

    from ..artifacts import Artifact
    from ..artifacts.inputs import Signature

PLAIN = ("", "auto", "classification")
"""Tasks whose answers are right or wrong, of which an accuracy with its interval is counted over all samples alike."""


@dataclass
class Test:
    """Samples that a model is judged on, as its task takes them."""

    task: Task
    split: Any
    signature: Signature

    def batches(self, size: int) -> Iterator[tuple[Any, Batch]]:
        """What a file's model is asked with, arrays as it takes them, and the batch that its answers are held to."""
        from ..artifacts.asking import prepared

        task, data = self.task, self.task.data
        draws = task.prepares and task.everywhere
        for begin in range(0, length(self.split), size):
            samples = [_sample(self.split, place) for place in range(begin, min(begin + size, length(self.split)))]
            batch = prepared(task, data, samples, draws, seed=begin)
            yield self._asked(task.question(batch)), Batch(*task.split(batch), 1.0, len(samples))

    def _asked(self, question: Any) -> Any:
        if isinstance(question, list):  # pictures, which may be of several sizes
            return [taken(self.signature, (one[None],))[0] for one in question]
        named = isinstance(question, dict)
        given = question if isinstance(question, tuple) else () if named else (question,)
        return taken(self.signature, given, question if named else None)[0]


def of_run(task: Task, signature: Signature) -> Test | None:
    """The test samples of a task's data, else those that validate; None where there are none, or a pair tells all."""
    split = task.data.test if task.data.test is not None else task.data.val
    if split is None or task.steps() or is_plain(task):
        return None
    raw = not task.prepares or signature.inputs[0].dtype != "uint8"  # what is drawn is laid over scaled pixels
    return Test(task, split, signature) if raw else None


def given(run: Any, module: nn.Module, data: Any = None) -> Any:
    """
    What a run was trained for, on its own data or on others, which are put together in batches as its own are.

    A Task that knows the module; or the pair of samples and labels that was given, where these tell what is right.
    """
    task = run_task(run, data if isinstance(data, Data) else None)
    if isinstance(data, (tuple, list)) and is_plain(task):
        return data
    if data is not None and not isinstance(data, Data):
        task = run_task(run, from_user((data, data, data), 0, collate=task.data.collate))
    task.setup(module)
    return task


def is_plain(task: Task) -> bool:
    """Whether pairs of samples and labels tell all of it."""
    return tasks.kind(task) in PLAIN and task.data.example is None and task.data.collate is None


def of_file(artifact: Artifact, data: Any) -> Test | None:
    """The same for the task that a file says its model was trained for; LabError where data are none of its kind."""
    facts = artifact.manifest.get("task", {})
    name, options = facts.get("name"), facts.get("options", {})
    if name not in TASKS or data is None or (name in PLAIN and isinstance(data, (tuple, list))):
        return None
    if not isinstance(data, Data):
        data = from_user((data, data, data), 0)
    try:
        task = tasks.make(Spec(task=name, options=options), data)
    except SpecError as error:
        raise LabError(f"data: the file is of task {name!r}: {error}") from None
    task.recall(artifact.manifest.get("answer", {}), artifact.signature.names)
    return of_run(task, artifact.signature)


def judged(forward: Callable[[Any], Any], test: Test, size: int) -> Quality:
    """Figures of a candidate on a test, by batches of some size."""
    task, criterion = test.task, test.task.criterion()
    names = metrics.telling(task.data, criterion, task.metrics)
    wanted = metrics.of(task.data, criterion, usual=names)
    wanted = {name: metric for name, metric in wanted.items() if metric.curve}
    answers = ((_outputs(_answers(forward, asked), task), batch) for asked, batch in test.batches(size))
    figures, sums = counted(wanted, answers, type(task) not in TASKS.values())
    return Quality(next((name for name in names if name in figures), ""), figures, sums)


def counted(
    wanted: dict[str, Metric], answers: Iterable[tuple[Any, Batch]], own: bool = False
) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    """
    Figures of some metrics, those that there are, of what a model gave for batches; and what they are of.

    Of a task that is the user's `own`, and knows the module's outputs alone, those that a file does not give are none.
    """
    parts: dict[str, list[Any]] = {name: [] for name in wanted}
    for output, batch in answers:
        for name in [*parts]:
            added = _added(name, wanted[name], output, batch, own)
            if added is None:
                del parts[name]
            else:
                parts[name].append(added)
    sums = {name: _together(wanted[name], added) for name, added in parts.items() if added}
    figures = {name: wanted[name].finish(total) for name, total in sums.items()}
    figures = metrics.with_following(wanted, "test", figures)
    return {name: figure for name, figure in figures.items() if figure is not None}, sums


@dataclass
class Quality:
    """How good answers are."""

    metric: str
    """The most telling; "" where nothing could be counted."""
    figures: dict[str, float]
    sums: dict[str, torch.Tensor]
    """What the figures were finished from."""


def _sample(split: Any, place: int) -> Any:
    return (split[0][place], split[1][place]) if isinstance(split, tuple) else split[place]


def _answers(forward: Callable[[Any], Any], asked: Any) -> Any:
    return [one for each in asked for one in forward(each)] if isinstance(asked, list) else forward(asked)


def _outputs(scores: Any, task: Task) -> Any:
    """Scores in the form that the model itself gave them in."""
    import torch

    outputs = over(torch.from_numpy, scores)
    if isinstance(outputs, dict):
        numbered = all(name == f"output{i}" for i, name in enumerate(outputs))
        return tuple(outputs.values()) if numbered else Outputs(outputs)
    return Outputs({task.output: outputs}) if task.output and isinstance(outputs, torch.Tensor) else outputs


class Outputs(dict[str, Any]):
    """By name, as a key or as an attribute, as Hugging Face's models give them."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


def _added(name: str, metric: Metric, output: Any, batch: Batch, own: bool) -> Any:
    """What a batch adds to a metric; None of the loss where a model gives its own, of which its scores don't tell."""
    import torch

    try:
        with torch.no_grad():
            return metric.add(output, batch)
    except Exception:  # of a task or loss that is the user's, or wants outputs that are not in the file
        if name != MINIMISED and not own:
            raise
        return None


def _together(metric: Metric, added: Sequence[Any]) -> Any:
    import torch

    return torch.cat([flat(one)[0] for one in added]) if metric.gathers else sum(added)
