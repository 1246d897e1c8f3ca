"""Launching: from a spec, and what a user made, to a run that is on its way."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from .. import launchers
from ..chains import plan
from ..errors import LabError, SpecError
from ..files import read_json, remedy, why, write_json
from ..launchers import HERE, Launcher, Ready, asked
from ..preparation import keep_files
from ..spec import OWN, Spec
from ..store import shipping, trained
from ..store.folder import RunFolder
from ..tables import TABLES, pick, table
from .checks import Allowed, checks
from .handle import Run, attach
from .own import Own

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from torch import Tensor, nn

    from ..engine.hooks import Hook
    from ..metrics import Metric
    from ..strategies.base import Single
    from ..tasks import Task

EPOCHS = 2  # of fine-tuning after each link of a chain
OF_TRAINING = ("keep_best", "stop_early", "ema")  # fields of a parent's spec that its children have no use for


@overload
def launch(
    spec: Spec,
    model: nn.Module | Callable[..., nn.Module] | None = None,
    data: Any = None,
    loss: Callable[[Tensor, Tensor], Tensor] | None = None,
    strategy: type[Single] | None = None,
    task: type[Task] | None = None,
    collate: Callable[[list[Any]], Any] | None = None,
    hooks: Sequence[Hook] | None = None,
    metrics: Mapping[str, Callable[[Any, Any], Any] | type[Metric]] | None = None,
    on: str | Launcher = "local",
) -> Run: ...


@overload
def launch(
    spec: Sequence[Spec],
    model: nn.Module | Callable[..., nn.Module] | None = None,
    data: Any = None,
    loss: Callable[[Tensor, Tensor], Tensor] | None = None,
    strategy: type[Single] | None = None,
    task: type[Task] | None = None,
    collate: Callable[[list[Any]], Any] | None = None,
    hooks: Sequence[Hook] | None = None,
    metrics: Mapping[str, Callable[[Any, Any], Any] | type[Metric]] | None = None,
    on: str | Launcher = "local",
) -> list[Run]: ...


def launch(
    spec: Spec | Sequence[Spec],
    model: nn.Module | Callable[..., nn.Module] | None = None,
    data: Any = None,
    loss: Callable[[Tensor, Tensor], Tensor] | None = None,
    strategy: type[Single] | None = None,
    task: type[Task] | None = None,
    collate: Callable[[list[Any]], Any] | None = None,
    hooks: Sequence[Hook] | None = None,
    metrics: Mapping[str, Callable[[Any, Any], Any] | type[Metric]] | None = None,
    on: str | Launcher = "local",
) -> Run | list[Run]:
    """
    Start a run, or a list of them, and return at once.

    Parameters
    ----------
    spec
        What to train and how; of a list of specs each is a run, and all start or none. They wait for each other in the
        queue of the place; where that has none, such as `lab.Torchrun`'s, they take turns.
    model
        Instead of a name: a module, or a class or function that makes one; it may ask for `shape` (of one sample),
        `classes` (their number) and `vocabulary` (kinds of tokens) by name. May be defined in a cell. Parts of it that
        were set to eval(), such as a frozen batch norm, stay so in training. A resume goes on with its parameters and
        buffers, and with attributes of its modules that are numbers, texts, tensors or generators of random numbers;
        what else they keep, such as objects of a class of your own, begins anew.
    data
        Instead of a name: (train, test), (train, val, test) or train; each a map-style Dataset, an IterableDataset, a
        list of samples or a pair (x, y) of tensors or arrays. Without `val` a tenth of train is held out by the spec's
        seed, but of a stream. Samples of a Dataset may be pairs, dicts, or any nest of dicts, tuples and lists with
        tensors, arrays and numbers at its leaves; a model is called with the names of a dict, as Hugging Face's are,
        and may give its own loss.
    loss
        loss(output (B, ...), target (B, ...)) -> mean (scalar), or a dict of means, whose sum is minimised and each of
        which has a curve; cross entropy for whole-number targets else (of texts, over all tokens: scores (B, T, K) of
        targets (B, T)), or mean squared error. Ranks and micro-batches each take
        the mean of their own slice. These are put together by what torch's cross entropy weighs (`weight`,
        `ignore_index`); those of a function of your own, by their samples. So if yours is a mean over something else,
        such as tokens that count or weights of classes, take nn.CrossEntropyLoss or functools.partial of its function:
        otherwise results depend on `world`, `accumulate` and the last, short batch.
    strategy
        Instead of a name: a subclass of one of STRATEGIES' classes, such as `lab.Group`. May be defined in a cell.
    task
        Instead of a name: a subclass of `lab.Task`, which says what a batch means or has the body of a loop in `step`;
        or of `lab.Adversarial`, whose players step in turn. May be defined in a cell.
    collate
        Makes a batch of a list of samples, such as a DataCollator of Hugging Face; `lab.Pad()` if not given, which pads
        what is of unequal length.
    hooks
        Functions that every rank calls with a `lab.Moment` at the start, after each step, epoch and evaluation, and at
        the end: `def watch(moment): ...`. They may log, and ask for a stop, a checkpoint or another rate. One that
        raises ends the run, as a bug in the model does. What one remembers in itself begins anew with a resume.
    metrics
        Your own beside the usual ones, by name: metric(output (N, ...), target (N, ...)) -> number, called after each
        evaluation with all of a split on the CPU (of more than 2**24 numbers, with every second sample, or fewer), or a
        subclass of `lab.Metric`, which sums. A function's attributes say how views show it: `higher = False` (less is
        better), `form = ".2%"`, `title`, `axis`, `highest`. One that raises in the first evaluation batch and in the
        whole split ends the run before its first step; one that raises later is told in a note, and the run goes on.
    on
        "local" for this machine, or other machines: `lab.Torchrun(nodes="1:4", hosts=[...])`,
        `lab.Slurm(partition=...)` or `lab.Ray(address)`; as text too, such as "slurm:partition=gpu,time=60".

    Raises
    ------
    SpecError, LabError
        Before anything starts: what can't be shipped, done on this machine, or written.
    """
    own = Own(model, data, loss, strategy, task, collate, hooks, metrics)
    place = asked(on)
    specs: list[Any] = [*spec] if isinstance(spec, (list, tuple)) else [spec]
    if not specs:
        raise SpecError("spec=[]: a list of specs needs at least one, such as [lab.Spec(lr=0.1), lab.Spec(lr=0.01)]")
    # What is held out of data depends on the seed: each has its own.
    made = together((checks(one, replace(own), on=place) for one in specs), place)
    groups = [[one] for one in made] if place.queues else [made]
    beside = sum(folder.spec.world for folder, _ in made) if place.queues else 1
    runs = [run for group in groups for run in start(*group, beside=beside)]
    return runs if isinstance(spec, (list, tuple)) else runs[0]


def together(several: Iterable[Allowed], on: Launcher, *before: tuple[RunFolder, str]) -> list[tuple[RunFolder, str]]:
    """What `make` gives of several runs, after what it gave `before`; of none, where one of them is refused."""
    made = [*before]
    try:
        for allowed in several:
            made.append(make(allowed, on))
    except BaseException:
        for folder, _ in made:
            shutil.rmtree(folder.path, ignore_errors=True)
        raise
    return made


def make(allowed: Allowed, on: Launcher = HERE) -> tuple[RunFolder, str]:
    """The folder of a run that is not started yet, with what is shipped and a copy of its parent; and its device."""
    parent = allowed.parent
    replaced = {*allowed.parts} | {name for name, field in OWN.items() if field not in allowed.spec.own}
    replaced |= {"model", "hooks"} if parent else set()
    source = parent.folder if parent else allowed.like

    def prepare(draft: Path) -> None:
        if on.facts:
            write_json(draft / "state.json", {**(read_json(draft / "state.json") or {}), "launcher": on.facts})
        if source:
            shipping.carry(source, draft, replaced)
        keep_files(allowed.spec, draft, source)
        if allowed.parts:
            shipping.pack(draft, allowed.parts)
        if parent:  # so that it may go
            trained.adopt(draft, parent.module, parent.facts)

    return RunFolder.create(allowed.spec, prepare), allowed.device


def compress(run: Run | str, chain: Any, data: Any = None, on: str | Launcher = "local", **changes: Any) -> Run:
    """
    Start a run that makes another's model smaller or faster, and return at once.

    Its chain of compressors is applied to the parent's model link after link, each fine-tuned as a run is trained: it
    streams events, can be watched, steered, stopped and resumed. It ends in a file that loads by itself. Weights that
    are parametrized, as by weight or spectral norm, are computed once and are plain weights from there on. Parts of the
    parent's model that were set to eval(), such as a frozen batch norm, stay so.

    Parameters
    ----------
    run
        The parent, or its id; it stays as it is.
    chain
        Links in order, each a name of COMPRESSORS, a pair such as ("prune", 0.5), or {"prune": {"ratio": 0.5}}.
    data
        Other data to fine-tune on, as `launch` takes it; pixels are scaled as the parent's were. Training samples
        without labels are `((x, None), val, test)`, for a chain that learns by {"distill": {"labels": False}} alone.
    on
        Where it runs, as `launch` takes it.
    **changes
        Fields of the parent's spec to change, such as `epochs` (of each link that trains; 2 if not given), `lr`,
        `strategy` or `dataset`; and `checkpoint`, which says with what model it begins: "last", "best" or "ema".

    Raises
    ------
    SpecError, LabError
        Before anything starts: a chain that can't work, or a parent without a model.
    """
    parent = attach(run)
    if "model" in changes:
        raise SpecError(f"model={changes['model']!r}: the model is that of the run that is compressed; leave it out")
    spec = chained(parent, chain, {"name": "", **changes})
    shipped = shipping.unpack(parent.store, ("data",)).get("data") if data is not None else None
    return launch(spec, data=_labelled(data, spec), collate=getattr(shipped, "collate", None), on=on)


def _labelled(data: Any, spec: Spec) -> Any:
    """The data; training samples without labels get some, which the chain never looks at."""
    train = data[0] if isinstance(data, (tuple, list)) and data else None
    if not (isinstance(train, (tuple, list)) and len(train) == 2 and hasattr(train[0], "shape") and train[1] is None):
        return data
    if len(data) != 3:
        raise SpecError("data: train has no labels: give ((x, None), val, test), since what is held out needs some")
    for item in (item for item in plan(spec) if item.epochs):
        if item.labels:
            only = "{'distill': {'labels': False}} trains without, and with 'stays': True so do the links after it"
            raise SpecError(f"data: train has no labels, and {item.name!r} trains with them; only {only}")
    import torch

    return ((train[0], torch.zeros(len(train[0]), dtype=torch.long)), *data[1:])


def chained(parent: Run, chain: Any, changes: dict[str, Any]) -> Spec:
    """The spec of a run that compresses another's model; what that kept by figures, and its average, are its own."""
    anew = {name: Spec.model_fields[name].get_default(call_default_factory=True) for name in OF_TRAINING}
    if parent.spec.precision == "auto":  # settled by its own first step
        anew["precision"] = parent.facts.get("precision", "fp32")
    return changed(parent.spec, {"epochs": EPOCHS, **anew, **changes, "parent": parent.id, "compress": chain})


def changed(spec: Spec, changes: dict[str, Any]) -> Spec:
    """The spec with changes; options of an entry that is left for another are dropped."""
    entries = {field: changes[field] for field in TABLES if field in changes}
    for field, name in entries.items():
        pick(table(field), name, field)
    return spec.replace(**{"options": spec.options_after(**entries), **changes})


def repeat(run: Run, on: str | Launcher = "local", **changes: Any) -> Run:
    """
    Launch a run like another, with the code that was shipped with it; `changes` are Spec fields.

    `on` says where, as `launch` takes it.

    Raises
    ------
    SpecError
        If a change is refused.
    """
    place = asked(on)
    return start(make(checks(run.spec.replace(**changes), like=run.folder, on=place), place))[0]


def start(*made: tuple[RunFolder, str], beside: int = 1) -> list[Run]:
    """Start fresh runs on their devices, one after the other, and return at once; the kernel may go."""
    ready: list[Ready] = []
    try:
        for folder, device in made:
            lock = folder.lock()
            assert lock is not None, "a fresh folder has no other owner"
            ready.append(Ready(folder, lock, device, beside))
        for folder, _ in made[1:]:
            folder.note(reason="waits for its turn")
    except BaseException as error:
        for run in ready:
            os.close(run.lock)
        if isinstance(error, LabError):  # locks can't be had there, now or later
            for folder, _ in made:
                shutil.rmtree(folder.path, ignore_errors=True)
        if isinstance(error, OSError):
            raise LabError(
                f"the run folder {str(folder.path)!r} can't be written ({why(error, folder.path)}): "
                f"{remedy(error)}, then go on with lab.attach({folder.id!r}).resume()"
            ) from None
        raise
    launchers.start(*ready)
    return [Run(folder) for folder, _ in made]
