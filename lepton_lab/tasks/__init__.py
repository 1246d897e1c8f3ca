"""
Tasks: TASKS maps a name to a `Task`, which says what a batch means: inputs, loss, what is counted, what is drawn.

Adding one: write it here, in a file of its own or beside its kin, and add a line to the table.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..losses import weigh
from ..tables import pick
from .adversarial import Adversarial
from .base import Paired, Task
from .classification import Classification, Multilabel, Segmentation
from .contrastive import Contrastive
from .ctc import CTC
from .denoising import Denoising, Diffusion
from .detection import Detection
from .enhancement import Enhancement
from .flow import FlowMatching
from .keywords import Keywords
from .language import LanguageModel, MaskedLanguageModel
from .multitask import Multitask
from .recommendation import Recommendation
from .regression import Regression
from .sequences import SequenceToSequence
from .skip_gram import SkipGram
from .spans import QuestionAnswering
from .variational import Variational

if TYPE_CHECKING:
    from ..datasets import Data
    from ..spec import Spec
    from .base import OwnLoss

    Sample = tuple[tuple[int, ...], int, int]

__all__ = ["TASKS", "Paired", "Task", "called", "kind", "make", "resolved", "told", "unfit"]


def auto(data: Data, loss: OwnLoss | None = None) -> Task:
    """What data say; else of pairs classes, next tokens or numbers, by their targets, of dicts the model's keywords."""
    if data.task:
        return TASKS[data.task](data, loss)
    if data.example is not None:
        return Keywords(data, loss) if isinstance(data.example, dict) else Task(data, loss)
    return told(*data.sample)(data, loss)


def told(shape: tuple[int, ...], classes: int, vocabulary: int) -> type[Paired]:
    """The task that `auto` is of pairs such as these (`data.sample`)."""
    if not LanguageModel.refuse(shape, classes, vocabulary):
        return LanguageModel
    return Classification if classes else Regression


def resolved(name: str, sample: Sample) -> str:
    """A task's name, where "auto" is the one that it is of pairs such as these (`data.sample`)."""
    return next(known for known, task in TASKS.items() if task is told(*sample)) if name == "auto" else name


TASKS: dict[str, Callable[..., Task]] = {
    "auto": auto,
    "classification": Classification,
    "segmentation": Segmentation,
    "multilabel": Multilabel,
    "regression": Regression,
    "language_model": LanguageModel,
    "masked_language_model": MaskedLanguageModel,
    "skip_gram": SkipGram,
    "sequence_to_sequence": SequenceToSequence,
    "question_answering": QuestionAnswering,
    "ctc": CTC,
    "denoising": Denoising,
    "diffusion": Diffusion,
    "enhancement": Enhancement,
    "variational": Variational,
    "flow_matching": FlowMatching,
    "contrastive": Contrastive,
    "recommendation": Recommendation,
    "detection": Detection,
    "multitask": Multitask,
    "keywords": Keywords,
    "adversarial": Adversarial,
}


def make(spec: Spec, data: Data, loss: OwnLoss | None = None, own: type[Task] | None = None) -> Task:
    """The task of a spec for some data; `own` is the user's, in place of a name."""
    kind = own or pick(TASKS, spec.task, "task")
    task = kind(data, loss, **spec.options_of(kind))
    for name, weight in task.weights.items():
        weigh(weight, f"weights: {name}")
    return task


def unfit(name: str, dataset: Any, sample: Sample | None = None) -> str:
    """
    Why a task can make nothing of a data set of the table, as a clause; "" where it can, or only a rank can tell.

    `sample` is what models are told of it, where transforms change that.
    """
    kind = TASKS.get(name)
    if not isinstance(kind, type) or not issubclass(kind, Task):
        return ""
    if tasks := getattr(dataset, "tasks", ()):  # which data by path don't say
        return "" if name in tasks else f"that data set is for task={' or '.join(map(repr, tasks))}"
    return (
        kind.refuse(*(sample or dataset.sample))
        if kind.table_data
        else "needs samples such as that data set does not have"
    )


def called(task: Task) -> str:
    """The name of a task in the table; of a user's own, its class's."""
    return next((name for name, member in TASKS.items() if member is type(task)), type(task).__name__)


def kind(task: Task) -> str:
    """The name in the table of a task, or of the nearest that a user's own is made from; "" of none."""
    names = {member: name for name, member in TASKS.items()}
    return next((names[base] for base in type(task).__mro__ if base in names), "")
