"""Whether data, task, model, loss and metrics go together."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ... import datasets, metrics, tasks, watched
from ...batches import described
from ...engine import trials
from ...engine.feed import alone
from ...errors import SpecError
from ...files import read_json
from ...links import links
from ...losses import takes_chances
from ...preparation import Sample, outlined, told_of
from ...spec import Spec
from ...store.folder import LOOKS
from ...strategies import STRATEGIES
from ...strategies.base import Single
from ...tables import does, meant, table, trait
from ...tasks import TASKS, Paired, Task
from ...values import called
from ..own import Own

if TYPE_CHECKING:
    from ...datasets import Data


def watches(spec: Spec, own: Own, like: Path | None) -> None:
    """Refuse figures that no run has; what this one has of them a rank can tell, before its first step."""
    task = own.task or TASKS.get(spec.task)
    players = task.figures() if isinstance(task, type) and issubclass(task, Task) else []
    known = [*metrics.curves(), *(own.metrics or ()), *players, *_shipped(like)]
    for field, key in watched.named(spec).items():
        if watched.divided(key)[1] not in known:
            raise watched.unknown(field, key, [name for name in known if name not in _senseless(spec, own)])


def _shipped(like: Path | None) -> Mapping[str, Any]:
    """Metrics of a user's own that were shipped with a run, by name."""
    return (read_json(like / LOOKS) or {}) if like else {}


def _senseless(spec: Spec, own: Own) -> list[str]:
    """Metrics of the table that have no meaning for a run, as far as that can be told without its model."""
    if trait("dataset", spec.dataset, "tasks"):
        return []  # of samples that tasks look at
    try:
        data = own.splits(spec) or _outlines(spec)
        task = tasks.make(spec, data, own.loss, own.task)
    except (SpecError, KeyError):  # of what is not at hand, or refused in its turn
        return []
    criterion = task.criterion()
    return [name for name, member in metrics.METRICS.items() if member.of(task.data, criterion) is None]


def means(spec: Spec, data: Data | None) -> None:
    """Refuse a task of the table that can make nothing of the samples; no data set is read, and no torch needed."""
    refuse = trait("task", spec.task, "refuse")
    if refuse is None or spec.parent or (data is None and "dataset" in spec.own):
        return
    if data is None:
        _does(spec)
    elif data.example is None and (why := refuse(*data.sample)):  # of nests a task sees for itself
        raise SpecError(f"task={spec.task!r}: {why}")


def _does(spec: Spec) -> None:
    """Refuse a task that can't be done with a data set of the table, with what would do."""
    entry = table("dataset")[spec.dataset]
    why = tasks.unfit(spec.task, entry, outlined(spec))
    if not why:
        return
    remedy = ""
    if "; take " in why:
        raise SpecError(f"task={spec.task!r}: {why}")
    if spec.transforms and not tasks.unfit(spec.task, entry, told_of(entry, spec.options)[1]):
        remedy = "leave the transforms out that made these of them, or "
    elif theirs := getattr(entry, "tasks", ()):
        remedy = f"take {'one of these' if len(theirs) > 1 else 'that'}{_with(spec, theirs[0], outlined(spec))}, or "
    elif fit := [name for name, other in table("dataset").items() if spec.task in other.tasks]:
        which = _with(spec, spec.task, table("dataset")[fit[0]].sample)
        remedy = f"take dataset={' or '.join(map(repr, fit))}{which}, or "
    raise SpecError(f"task={spec.task!r}: {why}; {remedy}give data=...")


def _with(spec: Spec, task: str, sample: Sample) -> str:
    """What a remedy adds of the model: nothing where the spec's own does the task, else the first of the table's."""
    able = _able(task, sample)
    return f" with model={able[0]!r}" if able and spec.model not in (*able, *spec.own) else ""


def _able(task: str, sample: Sample) -> list[str]:
    """Models of the table that do a task with such samples."""
    seen = sees(*sample) if (sees := trait("task", task, "sees")) else sample
    return [name for name, maker in table("model").items() if does(name, task) and not maker.refuse(*seen)]


def mixes(spec: Spec, own: Own) -> None:
    """Refuse transforms that make chances of labels for what takes none."""
    name = next((name for name, _ in links(spec.transforms) if table("transform")[name].mixes), "")
    if not name:
        return
    if own.loss is not None and not takes_chances(own.loss):
        raise SpecError(
            f"transforms={name!r}: makes chances of labels, which of losses torch's cross entropy takes, with a mean; "
            f"take that in place of loss={called(own.loss)}, or leave the transform out"
        )
    task = own.task or TASKS.get(spec.task)
    meant = called(own.task) if own.task else repr(spec.task)
    if isinstance(task, type) and not (issubclass(task, Paired) and task.answers == "classes"):
        raise SpecError(
            f"transforms={name!r}: mixes samples that have one label each, and task={meant} has others; leave it out"
        )


def suits(spec: Spec, data: Data | None) -> None:
    """Refuse a model of the table that can make nothing of the samples; no data set is read, and no torch needed."""
    if spec.parent or "model" in spec.own or (data is None and "dataset" in spec.own):
        return
    nest = data is not None and data.example is not None
    if data is not None and nest and not trait("model", spec.model, "tasks"):
        raise SpecError(
            f"model={spec.model!r}: takes one tensor, but batches are {described(data.example)}; give model=..., a "
            "module that takes these by name, or collate=f(samples) that gives a pair (x, y) of tensors"
        )
    task = spec.task if data is not None else meant(spec.task, spec.dataset)
    sample = outlined(spec) if data is None else data.sample
    if task == "auto":
        task = (data.task if data is not None else "") or tasks.resolved(task, sample)
    if data is None and (sees := trait("task", task, "sees")):
        sample = sees(*sample)
    if "task" not in spec.own and not does(spec.model, task):
        raise SpecError(_other(spec, task, sample, data is None))
    if nest and not sample[0]:  # what a task tells a model of them is known once it is made
        return
    maker = table("model")[spec.model]
    if why := maker.refuse(*sample, **spec.options_of(maker) | dict(maker.by_task.get(task, {}))):
        if (
            data is None
            and spec.transforms
            and not maker.refuse(*told_of(table("dataset")[spec.dataset], spec.options)[1])
        ):
            why += "; leave the transforms out that made these of them"
        raise SpecError(why)
    weights = spec.options.get("pretrained", "")
    if data is None and weights not in ("", *(options.get("pretrained") for _, options in links(spec.transforms))):
        raise SpecError(
            f"options={{'pretrained': {weights!r}}}: the data come in other tokens than those weights were trained on; "
            f"take transforms=[{{'wordpiece': {{'pretrained': {weights!r}}}}}]"
        )


def _other(spec: Spec, task: str, sample: Sample, known: bool) -> str:
    """
    The sentence for a model of the table that can't do a task, with the first that can.

    One that is for a single task is likely what was meant, and where a `known` data set allows it so is that task.
    """
    theirs = trait("model", spec.model, "tasks")
    why = (
        f"is for task={' or '.join(map(repr, theirs))}" if theirs else "takes x alone and scores classes or one number"
    )
    remedies = [f"model={name!r}" for name in _able(task, sample)[:1]]
    if known and len(theirs) == 1 and not tasks.unfit(theirs[0], table("dataset")[spec.dataset], outlined(spec)):
        remedies[:0] = [f"task={theirs[0]!r}"] * (spec.model in _able(theirs[0], outlined(spec)))
    remedy = f"take {' or '.join(remedies)}, or " if remedies else ""
    return f"model={spec.model!r}: {why}, and task={task!r} needs others; {remedy}give model=..."


def agrees(spec: Spec, own: Own, task: Task) -> None:
    """Refuse what the user's own data, model and loss can't do together."""
    from torch import nn

    data = task.data
    if not task.plain:
        module = own.model if isinstance(own.model, nn.Module) or own.model is None else own.bare(spec, data)
        if module is not None:
            task.setup(module)
            trials.pixels(module, task)
        return
    usual = own.loss is None and isinstance(task, Paired) and type(task).usual is Paired.usual
    if usual:
        datasets.usual(data)
    if own.model is None:
        return
    made = own.model if isinstance(own.model, nn.Module) else own.bare(spec, data)
    if made is not None:
        task.setup(made)
    strategy = STRATEGIES.get(spec.strategy, Single)
    begin, end = strategy(spec, **spec.options_of(strategy)).holds(0, spec.world)["batch"]
    parts = round(1 / (end - begin))
    doubtful = usual and trials.labelled(data)
    if (doubtful or alone(spec, datasets.length(data.train), parts)) and (module := own.bare(spec, data)) is not None:
        trials.normalises(module, data, spec, parts)
        if doubtful:
            trials.answers(module, data)


def counts(spec: Spec, own: Own, task: Task | None, like: Path | None) -> None:
    """Refuse figures that have no meaning for the data and the loss; where these are not at hand a rank does."""
    # Which needs no samples, where it is no task that a data set names.
    usual = spec.task == meant(spec.task, spec.dataset) == Spec.model_fields["task"].default
    if not (spec.metrics or watched.named(spec)) or (task is None and ("dataset" in spec.own or not usual)):
        return
    validates = task is None or datasets.length(task.data.val) > 0
    task = task or tasks.make(spec, _outlines(spec), own.loss, own.task)
    counted = metrics.of(task.data, task.criterion(), spec, usual=task.metrics)
    of_table = [name for name, metric in counted.items() if metric.curve]
    names = [*of_table, *(own.metrics or ()), *task.figures(), *_shipped(like)]
    watched.check(spec, names, ("train", "val") if validates else ("train",))


def _outlines(spec: Spec) -> Data:
    """What is known of a spec's data set of the table before it is read."""
    shape, classes, vocabulary = outlined(spec)
    tokens = "bytes" if vocabulary and vocabulary == classes else ""
    none: Any = None
    return datasets.Data(none, None, None, shape, list(map(str, range(classes))), vocabulary=vocabulary, tokens=tokens)
