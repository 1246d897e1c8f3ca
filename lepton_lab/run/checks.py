"""
May this run? Asked once, before anything starts: of spec, strategy, devices, data, chain and model, in this order.

Each refuses in a sentence of its own. A new rule goes into the function of what it concerns; launch, compress, race,
advise, grids, searches and the form then have it.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import datasets, metrics, models, tasks, watched
from ..batches import described
from ..chains import mismatch
from ..compressors import rehearse
from ..engine import trials
from ..engine.feed import alone
from ..errors import SpecError
from ..files import data_root, read_json
from ..launchers import devices
from ..spec import CELL, OWN, Spec
from ..store import shipping, trained
from ..store.finding import find
from ..store.folder import LOOKS, RunFolder
from ..strategies import STRATEGIES
from ..strategies.base import Single
from ..strategies.group import Group
from ..tables import table, trait
from ..tasks import TASKS, Paired, Task, stepping
from ..values import called
from .own import Own

if TYPE_CHECKING:
    from torch import nn

    from ..datasets import Data

INHERITED: tuple[str, ...] = ("shape", "classes", "vocabulary", "mean", "std")
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


@dataclass(frozen=True)
class Allowed:
    """A run that may be, with what was found out on the way."""

    spec: Spec
    """With the names of what is the user's own, and its parent's id."""
    device: str
    """"cuda" or "cpu"."""
    parts: dict[str, Any]
    """What is shipped with it: the user's own, data as splits."""
    parent: Parent | None = None
    like: Path | None = None
    """Folder of another run, whose shipped code it takes."""


def checks(spec: Spec, own: Own | None = None, like: Path | None = None) -> Allowed:
    """
    Refuse what can be seen to fail, before anything starts.

    With `like`, the folder of another run, it is to train with the code that was shipped with that. A SpecError or
    LabError says in one sentence what would do.
    """
    own = own or Own()
    if like is not None:
        RunFolder(like)  # refused where there is none, and so no code
    spec = named(spec, own.parts, like is not None)
    _watches(spec, own, like)
    shipped = RunFolder(like) if like is not None and not spec.parent else None
    device = splits(spec, replace(own, task=shipped_task(shipped)) if shipped else own, like=shipped)
    return trains(spec, device, own, like)


def shipped_task(folder: RunFolder) -> type[Task] | None:
    """The user's own task that was shipped with a run, if it has one."""
    return shipping.unpack(folder, ("task",)).get("task")


def named(spec: Spec, parts: dict[str, Any], shipped: bool = False) -> Spec:
    """The spec with the names of the user's own in it; one that lacks them is refused, but where they are shipped."""
    if not isinstance(spec, Spec):
        raise SpecError(f"launch takes a Spec, not a {type(spec).__name__}: lab.launch(lab.Spec(...))")
    for name, field in OWN.items():
        value = getattr(spec, field)
        if name in parts:
            spec = spec.replace(**{field: CELL + called(parts[name])})
        elif value.startswith(CELL) and not spec.parent and not shipped:
            raise SpecError(
                f"{field}={value!r} was defined in a notebook: pass it again as lab.launch(spec, {name}=...), or "
                "repeat its run with `lepton-lab run --like RUN_ID`"
            )
    return spec


def splits(spec: Spec, own: Own, here: bool = True, like: RunFolder | None = None) -> str:
    """
    Refuse what the strategy can't split over the spec's ranks; gives the device of each, as `Allowed` has it.

    Of all that `checks` asks it is what differs between strategies. The devices of this machine are asked where the
    run is to be `here`. `like` is the run whose shipped data it trains on, which tells what their batches are.
    """
    shares(spec, own)
    device = ""
    if here:
        device = devices.choose(spec)
        devices.start_method()
    if not spec.parent:
        _nests(spec, own, like)
        _fits(spec, own)
    return device


def shares(spec: Spec, own: Own) -> None:
    """Refuse what the strategy can't do with a spec and a task, as names tell: what of `splits` makes no model."""
    spec.check_strategy()
    if own.strategy is not None and "strategy" in spec.own and (why := own.strategy.refuse(spec)):
        raise SpecError(why)
    if not spec.parent:
        _steps(spec, own)
        _passes(spec)


def trains(spec: Spec, device: str, own: Own, like: Path | None = None) -> Allowed:
    """Refuse data and models that don't go together: the rest of `checks`, alike for all strategies."""
    parts, data = own.parts, own.splits(spec)
    if data is not None:
        parts["data"] = data
    elif "dataset" not in spec.own:
        datasets.check(spec.dataset, data_root())
    if spec.parent:
        return _compresses(spec, own, parts, device, like)
    _means(spec, data)
    task = None
    if data is not None and (own.task is not None or "task" not in spec.own):
        task = tasks.make(spec, data, own.loss, own.task)
    _suits(spec, task.data if task else data)
    if task is not None:
        _agrees(spec, own, task)
    _counts(spec, own, task)  # after the task has seen the model, by which it may know what answers are
    return Allowed(spec, device, parts, like=like)


def glance(spec: Spec, data: Data | None = None, own: Own | None = None) -> Allowed:
    """What of `checks` reads no data and makes no model: for a form, at every change, and for the runs of a grid."""
    shares(spec, own := own or Own())
    _watches(spec, own, None)
    device = devices.choose(spec)
    if data is None and "dataset" not in spec.own:
        datasets.check(spec.dataset, data_root())
    _means(spec, data)
    _suits(spec, data)
    spec = spec.replace(parent=find(spec.parent).id) if spec.parent else spec
    return Allowed(spec, device, {})


def _means(spec: Spec, data: Data | None) -> None:
    """Refuse a task of the table that can make nothing of the samples; no data set is read, and no torch needed."""
    refuse = trait("task", spec.task, "refuse")
    if refuse is None or spec.parent or (data is None and "dataset" in spec.own):
        return
    if data is not None and data.example is not None:
        return  # which a task sees for itself
    if data is None and not trait("task", spec.task, "table_data"):
        raise SpecError(
            f"dataset={spec.dataset!r}: no data set of the table is what task={spec.task!r} needs; give data=..."
        )
    sample = table("dataset")[spec.dataset].sample if data is None else data.sample
    if why := refuse(*sample):
        raise SpecError(f"task={spec.task!r}: {why}")


def _watches(spec: Spec, own: Own, like: Path | None) -> None:
    """Refuse figures that no run has; what this one has of them a rank can tell, before its first step."""
    shipped = (read_json(like / LOOKS) or {}) if like else {}
    task = own.task or TASKS.get(spec.task)
    players = task.figures() if isinstance(task, type) and issubclass(task, Task) else []
    known = [*metrics.curves(), *(own.metrics or ()), *players, *shipped]
    for field, key in watched.named(spec).items():
        if watched.divided(key)[1] not in known:
            raise watched.unknown(field, key, known)


def _suits(spec: Spec, data: Data | None) -> None:
    """Refuse a model of the table that can make nothing of the samples; no data set is read, and no torch needed."""
    if spec.parent or "model" in spec.own or (data is None and "dataset" in spec.own):
        return
    if data is not None and data.example is not None:
        raise SpecError(
            f"model={spec.model!r}: takes one tensor, but batches are {described(data.example)}; give model=..., a "
            "module that takes these by name, or collate=f(samples) that gives a pair (x, y) of tensors"
        )
    if trait("task", spec.task, "table_models") is False:
        raise SpecError(
            f"model={spec.model!r}: models of the table take x alone and give scores of classes or a number, and "
            f"task={spec.task!r} needs others; give model=..."
        )
    sample = table("dataset")[spec.dataset].sample if data is None else data.sample
    if data is None and (sees := trait("task", spec.task, "sees")):
        sample = sees(*sample)
    if why := table("model")[spec.model].refuse(*sample):
        raise SpecError(why)


def _counts(spec: Spec, own: Own, task: Task | None) -> None:
    """Refuse metrics that have no meaning for the data and the loss; where these are not at hand a rank does."""
    usual = spec.task == Spec.model_fields["task"].default  # which needs no samples
    if not spec.metrics or (task is None and ("dataset" in spec.own or not usual)):
        return
    task = task or tasks.make(spec, _outlines(spec.dataset), own.loss, own.task)
    metrics.of(task.data, task.criterion(), spec)


def _outlines(dataset: str) -> Data:
    """What is known of a data set of the table before it is read."""
    shape, classes, vocabulary = table("dataset")[dataset].sample
    tokens = "bytes" if vocabulary and vocabulary == classes else ""
    none: Any = None
    return datasets.Data(none, None, None, shape, list(map(str, range(classes))), vocabulary=vocabulary, tokens=tokens)


def _passes(spec: Spec) -> None:
    """Refuse a task that calls the model with more than a strategy passes on."""
    if not STRATEGIES.get(spec.strategy, Single).nests and spec.world > 1 and trait("task", spec.task, "nests"):
        raise SpecError(
            f"strategy={spec.strategy!r} passes one tensor from layer to layer, but task={spec.task!r} calls the model "
            "with more; take strategy='ddp' or 'fsdp'"
        )


def _nests(spec: Spec, own: Own, like: RunFolder | None) -> None:
    """Refuse batches of more than a strategy passes on."""
    if STRATEGIES.get(spec.strategy, Single).nests or spec.world == 1:
        return
    data = own.splits(spec)
    known = like.facts.get("batch") if like is not None and data is None else None
    if batch := described(data.example) if data is not None and data.example is not None else known:
        raise SpecError(
            f"strategy={spec.strategy!r} passes one tensor from layer to layer, but batches are {batch}; "
            "take strategy='ddp' or 'fsdp'"
        )


def _fits(spec: Spec, own: Own) -> None:
    """Refuse a model that the strategy can't split, as a copy without memory tells."""
    strategy = STRATEGIES.get(spec.strategy, Single)
    if spec.world == 1 or strategy.fits is Single.fits:
        return
    if own.model is None and ("model" in spec.own or not spec.options.get("sequence_parallel")):
        return  # names and options have told all, or nothing more is at hand
    data = own.splits(spec) or datasets.load(spec)
    if (module := _bare(spec, own, data)) is not None:
        trials.tried(lambda: strategy(spec, **spec.options_of(strategy)).fits(module, trials.samples(data, 1)))


def _agrees(spec: Spec, own: Own, task: Task) -> None:
    """Refuse what the user's own data, model and loss can't do together."""
    from torch import nn

    data = task.data
    if not task.plain:
        module = own.model if isinstance(own.model, nn.Module) or own.model is None else _bare(spec, own, data)
        if module is not None:
            task.setup(module)
        return
    usual = own.loss is None and isinstance(task, Paired) and type(task).usual is Paired.usual
    if usual:
        datasets.usual(data)
    if own.model is None:
        return
    if isinstance(own.model, nn.Module):
        task.setup(own.model)
    strategy = STRATEGIES.get(spec.strategy, Single)
    begin, end = strategy(spec, **spec.options_of(strategy)).holds(0, spec.world)["batch"]
    parts = round(1 / (end - begin))
    doubtful = usual and trials.labelled(data)
    if (doubtful or alone(spec, datasets.length(data.train), parts)) and (module := _bare(spec, own, data)) is not None:
        trials.normalises(module, data, spec, parts)
        if doubtful:
            trials.answers(module, data)


def _steps(spec: Spec, own: Own) -> None:
    """Refuse a task's own step that the strategy can't call, and players whose options are refused."""
    task, kind = own.task or TASKS.get(spec.task), own.strategy or STRATEGIES.get(spec.strategy, Single)
    if not (isinstance(task, type) and issubclass(task, Task) and task.steps()):
        return
    stepping.check(task)
    what = f"task={called(task)} has a step of its own, which"
    if not kind.own_steps or kind.step not in (Single.step, Group.step):
        able = ", ".join(repr(name) for name, member in STRATEGIES.items() if member.own_steps)
        raise SpecError(f"strategy={spec.strategy!r}: {what} it can't call; take one of {able}")
    if spec.compile:
        raise SpecError(f"compile=True: {what} can't be compiled; take compile=False")
    if spec.precision == "auto":
        raise SpecError(f"precision='auto': {what} isn't timed by itself; take precision='fp32' or 'bf16'")
    for player in task.players:
        if why := kind.refuse(task.spec_of(player, spec)):
            raise SpecError(f"players: {player!r}: {why}")
    if task.players and spec.options.get(kind.inexact_with, "none") != "none":
        raise SpecError(
            f"options: {kind.inexact_with}={spec.options[kind.inexact_with]!r} is for a model with one optimizer, and "
            f"task={called(task)} has several players; leave it out"
        )


def _bare(spec: Spec, own: Own, data: Data) -> nn.Module | None:
    """The model without memory; None where it can't be made so."""
    maker = inspect.isroutine(own.model) or isinstance(own.model, type)
    model = own.model if maker else copy.deepcopy(own.model)
    return trials.bare(lambda: models.make(spec, data.sample, model))


def _compresses(spec: Spec, own: Own, parts: dict[str, Any], device: str, like: Path | None) -> Allowed:
    """Refuse a chain that can't be applied to its parent's model, and data of which that knows nothing."""
    if own.model is not None:
        raise SpecError(f"model={called(own.model)}: the model is that of parent={spec.parent!r}; leave it out")
    if like is not None and (adopted := trained.adopted(like)):  # as another child of it has it, since it may be gone
        parent = Parent(like, *adopted)
    else:
        folder = find(spec.parent)
        if (name := folder.facts.get("task")) and not trait("task", name, "plain"):
            raise SpecError(f"parent={spec.parent!r}: a chain trains on pairs (x, y), and the run's task is {name!r}")
        spec, parent = spec.replace(parent=folder.id), _parent(folder, spec.checkpoint)
    if (data := parts.get("data")) is not None:
        mismatch(parent.facts, spec, *data.sample)
        parts["data"] = _alike(data, parent.facts)
    sample = tuple(parent.facts["shape"]), len(parent.facts["classes"]), parent.facts.get("vocabulary", 0)
    rehearse(parent.module, spec, *sample)
    return Allowed(spec, device, parts, parent, like)


def _parent(folder: RunFolder, checkpoint: str) -> Parent:
    """The run of a folder as a parent, with one of its checkpoints."""
    from ..compressors.layers import parametrized, unparametrized

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
