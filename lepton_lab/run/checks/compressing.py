"""Whether a chain of compressors can be applied to its parent's model."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ... import datasets, tasks
from ...artifacts import About
from ...batches import call
from ...chains import mismatch, plan
from ...compressors import rehearse
from ...errors import LabError, SpecError
from ...spec import Spec
from ...store import shipping, trained
from ...store.finding import find
from ...store.folder import RunFolder
from ...tables import meant, trait
from ...values import called
from ..own import Own

if TYPE_CHECKING:
    from torch import nn

    from ...datasets import Data
    from ...tasks import Task

INHERITED: tuple[str, ...] = ("shape", "classes", "vocabulary", "mean", "std", "unit")
"""Facts of a parent's data that its children need."""


@dataclass(frozen=True)
class Parent:
    """The run whose model a chain begins with."""

    folder: Path
    """Where its code is."""
    module: nn.Module
    """With plain weights, on the CPU."""
    facts: dict[str, Any]
    """What is known of its data, and of its parts."""


def compresses(spec: Spec, own: Own, parts: dict[str, Any], like: Path | None) -> tuple[Spec, Parent]:
    """
    Refuse a chain that can't be applied to its parent's model, and data of which that knows nothing.

    Gives the spec with the parent's id, and the parent; of `parts`, data become those that the parent knows.
    """
    if own.model is not None:
        raise SpecError(f"model={called(own.model)}: the model is that of parent={spec.parent!r}; leave it out")
    if like is not None and (adopted := trained.adopted(like)):  # as another child of it has it, since it may be gone
        parent = Parent(like, *adopted)
    else:
        folder = find(spec.parent)
        spec, parent = spec.replace(parent=folder.id), _parent(folder, spec.checkpoint)
    task = _task(spec, own, parent.folder)
    if (data := parts.get("data")) is not None:
        mismatch(parent.facts, spec, *(task.data if task else data).sample)
        parts["data"] = _alike(data, parent.facts)
    facts = parent.facts
    sample = tuple(facts["shape"]), len(facts["classes"]), facts.get("vocabulary", 0)
    rehearse(parent.module, spec, *sample, task and _question(task, spec, parent.module))
    return spec, parent


def _task(spec: Spec, own: Own, folder: Path) -> Task | None:
    """What the chain trains for, where the folder has a parent's code; None where names tell: pairs of a data set."""
    shipped = shipping.unpack(RunFolder(folder), ("data", "loss", "task"))
    data, kind = own.splits(spec), own.task or shipped.get("task")
    if data is None and (theirs := shipped.get("data")) is not None:
        data = datasets.load(spec, theirs)
    if data is None and kind is None and trait("task", meant(spec.task, spec.dataset), "plain") is not False:
        return None
    return tasks.make(spec, data or datasets.load(spec), own.loss or shipped.get("loss"), kind)


def _question(task: Task, spec: Spec, module: nn.Module) -> Any:
    """Two samples as the model is called with them, None where it takes raw ones; refused where no file holds it."""
    if task.steps():
        raise SpecError(
            f"compress: task={called(type(task))} has a step of its own, which alone knows how its model is called; "
            "take a task whose `inputs` and `loss` say it"
        )
    from ...artifacts.asking import posed

    task.setup(module)
    if not task.plain or not task.takes_raw:
        _holds(task, spec, module)
    if task.takes_raw:
        return None
    question = posed(task, range(min(2, datasets.length(task.data.train))))
    _compares(task, spec, module, question)
    return question


def _compares(task: Task, spec: Spec, module: nn.Module, question: Any) -> None:
    """Refuse a teacher whose answers are not one tensor."""
    import torch

    link = next((item.name for item in plan(spec) if item.compressor().compares), "")
    if not link:
        return
    with torch.no_grad():
        answers = task.scores(call(module, question))
    if not isinstance(answers, torch.Tensor):
        raise SpecError(
            f"compress={link!r}: compares a teacher's answers as one tensor, and task={called(type(task))} gives none "
            "such; leave the link out"
        )


def _holds(task: Task, spec: Spec, module: nn.Module) -> None:
    """Refuse a model that the file in which a chain ends can't hold."""
    from ...artifacts.preparing import Prepared, scores

    try:
        about = About.of_task(task, spec, module)
        scores(Prepared(module, about), about)
    except LabError as error:
        raise SpecError(f"parent={spec.parent!r}: a chain ends in a file, which can't hold it: {error}") from None


def _parent(folder: RunFolder, checkpoint: str) -> Parent:
    """The run of a folder as a parent, with one of its checkpoints."""
    from ...compressors.layers import parametrized, unparametrized

    module, facts = trained.made(folder, checkpoint), folder.facts
    inherited = {name: facts[name] for name in INHERITED if name in facts}
    inherited |= {"parametrized": parametrized(module), "frozen": trained.frozen(folder, module)}
    return Parent(folder.path, unparametrized(module.eval()), inherited)


def _alike(data: Data, facts: dict[str, Any]) -> Data:
    """A user's own data as the parent knows its own: pixels scaled as those were, and labels by the same names."""
    numbered = data.classes == [str(i) for i in range(len(data.classes))]
    return dataclasses.replace(
        data,
        mean=tuple(facts.get("mean", ())),
        std=tuple(facts.get("std", ())),
        classes=facts["classes"] if numbered else data.classes,
    )
