"""Launching: from a spec, and what a user made, to a run that is on its way."""

from __future__ import annotations

import dataclasses
import inspect
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import datasets
from ..chains import plan
from ..compressors import rehearse
from ..disks import remedy, why
from ..engine import chain, trials
from ..engine.feed import alone
from ..errors import LabError, SpecError
from ..files import data_root
from ..launchers import devices
from ..launchers.local import submit
from ..launchers.rank import load_data, make_model
from ..losses import ignored
from ..spec import CELL, OWN, Spec
from ..store import shipping, trained
from ..store.finding import find
from ..store.folder import RunFolder
from ..strategies import STRATEGIES
from ..strategies.base import Single
from ..tables import TABLES, keywords, pick, table
from .handle import Run

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from ..datasets import Data

EPOCHS = 2  # of fine-tuning after each link of a chain


def launch(
    spec: Spec,
    model: nn.Module | Callable[..., nn.Module] | None = None,
    data: Any = None,
    loss: Callable[[Tensor, Tensor], Tensor] | None = None,
    strategy: type[Single] | None = None,
) -> Run:
    """
    Start a run and return at once.

    Parameters
    ----------
    spec
        What to train and how.
    model
        Instead of a name: a module, or a class or function that makes one; it may ask for `shape` (of one sample),
        `classes` (their number) and `vocabulary` (kinds of tokens) by name. May be defined in a cell. Parts of it that
        were set to eval(), such as a frozen batch norm, stay so in training. A resume goes on with its parameters and
        buffers, and with attributes of its modules that are numbers, texts, tensors or generators of random numbers;
        what else they keep, such as objects of a class of your own, begins anew.
    data
        Instead of a name: (train, test), (train, val, test) or train; each a map-style Dataset or a pair (x, y) of
        tensors or arrays. Without `val` a tenth of train is held out by the spec's seed.
    loss
        loss(output (B, ...), target (B, ...)) -> mean (scalar); cross entropy for whole-number targets else (of texts,
        over all tokens: scores (B, T, K) of targets (B, T)), or mean squared error. Ranks and micro-batches each take
        the mean of their own slice. These are put together by what torch's cross entropy weighs (`weight`,
        `ignore_index`); those of a function of your own, by their samples. So if yours is a mean over something else,
        such as tokens that count or weights of classes, take nn.CrossEntropyLoss or functools.partial of its function:
        otherwise results depend on `world`, `accumulate` and the last, short batch.
    strategy
        Instead of a name: a subclass of one of STRATEGIES' classes, such as `lab.Group`. May be defined in a cell.

    Raises
    ------
    SpecError, LabError
        Before anything starts: what can't be shipped, done on this machine, or written.
    """
    return start(create(spec, model, data, loss, strategy))[0]


def create(spec: Spec, model: Any = None, data: Any = None, loss: Any = None, strategy: Any = None) -> RunFolder:
    """The folder of a run that is not started yet, with what was shipped; takes and raises what `launch` does."""
    if not isinstance(spec, Spec):
        raise SpecError(f"launch takes a Spec, not a {type(spec).__name__}: lab.launch(lab.Spec(...))")
    parts = {"model": model, "data": data, "loss": loss, "strategy": strategy}
    parts = {name: part for name, part in parts.items() if part is not None}
    if parts:
        shipping.check(**parts)
    spec = named(spec, parts)
    spec.check_strategy()
    if strategy is not None and (why := strategy.refuse(spec)):
        raise SpecError(why)
    devices.choose(spec)
    devices.start_method()
    if data is not None:
        parts["data"] = datasets.from_user(data, spec.seed, ignored(loss))
    elif "dataset" not in spec.own:
        datasets.check(spec.dataset, data_root())
    if spec.parent:
        return _child(spec.replace(parent=find(spec.parent).id), parts)
    suit(spec, parts.get("data"))
    fit(spec, model, parts.get("data"))
    if data is not None:
        agree(spec, model, parts["data"], loss is None)
    if parts:
        return RunFolder.create(spec, lambda draft: shipping.pack(draft, parts))
    return RunFolder.create(spec)


def suit(spec: Spec, data: Data | None = None) -> None:
    """
    Refuse a model of the table that can make nothing of the samples; no data set is read, and no torch needed.

    Raises
    ------
    SpecError
        In one sentence, that says which model would suit.
    """
    if spec.parent or "model" in spec.own or (data is None and "dataset" in spec.own):
        return
    sample = table("dataset")[spec.dataset].sample if data is None else (data.shape, len(data.classes), data.vocabulary)
    if why := table("model")[spec.model].refuse(*sample):
        raise SpecError(why)


def fit(spec: Spec, model: Any = None, data: Data | None = None) -> None:
    """Refuse in the cell what the strategy can't split, as a copy without memory tells."""
    strategy = STRATEGIES.get(spec.strategy, Single)
    if spec.world == 1 or strategy.fits is Single.fits:
        return
    if model is None and not spec.options.get("sequence_parallel"):  # names and options have told all
        return
    data = data or load_data(spec)
    if (module := _bare(spec, model, data)) is None:  # the ranks will see
        return
    try:
        strategy(spec, **spec.options_of(strategy)).fits(module, trials.samples(data, 1))
    except SpecError:
        raise
    except Exception:
        return  # a model that needs numbers to compute


def agree(spec: Spec, model: Any, data: Data, usual: bool) -> None:
    """
    Refuse in the cell what a user's own model can't do with the user's own data.

    Parameters
    ----------
    usual
        Whether no loss of the user's own is given.
    """
    if usual:
        datasets.usual(data)
    if model is None:
        return
    strategy = STRATEGIES.get(spec.strategy, Single)
    begin, end = strategy(spec, **spec.options_of(strategy)).holds(0, spec.world)["batch"]
    parts = round(1 / (end - begin))
    n = len(data.train[0]) if isinstance(data.train, tuple) else len(data.train)  # type: ignore[arg-type]
    doubtful = usual and trials.labelled(data)
    if (doubtful or alone(spec, n, parts)) and (module := _bare(spec, model, data)) is not None:
        trials.normalises(module, data, spec, parts)
        if doubtful:
            trials.answers(module, data)


def _bare(spec: Spec, model: Any, data: Data) -> nn.Module | None:
    """The model without memory; None where it can't be made so."""
    import copy

    own = model if inspect.isroutine(model) or isinstance(model, type) else copy.deepcopy(model)
    return trials.bare(lambda: make_model(spec, own, data))


def compress(run: Run | str, chain: Any, data: Any = None, **changes: Any) -> Run:
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
    **changes
        Fields of the parent's spec to change, such as `epochs` (of each link that trains; 2 if not given), `lr`,
        `strategy` or `dataset`.

    Raises
    ------
    SpecError, LabError
        Before anything starts: a chain that can't work, or a parent without a model.
    """
    parent = run if isinstance(run, Run) else Run(find(run))
    if "model" in changes:
        raise SpecError(f"model={changes['model']!r}: the model is that of the run that is compressed; leave it out")
    changes = {"epochs": EPOCHS, "name": "", **changes}
    spec = changed(parent.spec, {**changes, "parent": parent.id, "compress": chain})
    return launch(spec, data=_labelled(data, spec))


def _labelled(data: Any, spec: Spec) -> Any:
    """The data; training samples without labels get some, which the chain never looks at."""
    train = data[0] if isinstance(data, (tuple, list)) and data else None
    if not (isinstance(train, (tuple, list)) and len(train) == 2 and hasattr(train[0], "shape") and train[1] is None):
        return data
    if len(data) != 3:
        raise SpecError("data: train has no labels: give ((x, None), val, test), since what is held out needs some")
    for item in (item for item in plan(spec) if item.epochs):
        if item.name != "distill" or item.options.get("labels", True):
            told = "the only link that trains without is {'distill': {'labels': False}}"
            raise SpecError(f"data: train has no labels, and {item.name!r} trains with them; {told}")
    import torch

    return ((train[0], torch.zeros(len(train[0]), dtype=torch.long)), *data[1:])


def changed(spec: Spec, changes: dict[str, Any]) -> Spec:
    """The spec with changes; options of an entry that is left for another are dropped."""
    if "options" not in changes:
        left: set[str] = set()
        for field in (field for field in TABLES if field in changes):
            pick(table(field), changes[field], field)
            left |= set() if field in spec.own else set(keywords(table(field)[getattr(spec, field)]))
            left -= set(keywords(table(field)[changes[field]]))
        if left:
            changes = {**changes, "options": {k: v for k, v in spec.options.items() if k not in left}}
    return spec.replace(**changes)


def _child(spec: Spec, parts: dict[str, Any], like: Path | None = None) -> RunFolder:
    """
    The folder of a run that compresses another's model, with a copy of it, so that the parent may go.

    Parameters
    ----------
    parts
        What is shipped with it.
    like
        Folder of another child of the same parent, whose code and copy are taken.
    """
    if "model" in parts:
        given = shipping.name(parts["model"])
        raise SpecError(f"model={given}: the model is that of parent={spec.parent!r}; leave it out")
    adopted = trained.adopted(like) if like else None
    source, (module, told) = (like, adopted) if like and adopted else _parent(spec)
    if "data" in parts:
        given = parts["data"]
        chain.refuse(told, spec, given.shape, len(given.classes), given.vocabulary)
        parts["data"] = _alike(given, told)
    rehearse(module, spec, tuple(told["shape"]), len(told["classes"]), told.get("vocabulary", 0))
    replaced = {"model", *parts} | {name for name, field in OWN.items() if field not in spec.own}

    def prepare(draft: Path) -> None:
        shipping.carry(source, draft, replaced)
        if parts:
            shipping.pack(draft, parts)
        trained.adopt(draft, module, told)

    return RunFolder.create(spec, prepare)


def _parent(spec: Spec) -> tuple[Path, tuple[nn.Module, dict[str, Any]]]:
    """The parent's folder, its module with plain weights, and what that was told of its data."""
    from ..compressors.layers import parametrized, unparametrized

    folder = find(spec.parent)
    module, facts = trained.made(folder), folder.facts
    kept = ("shape", "classes", "vocabulary", "mean", "std")
    told = {name: facts[name] for name in kept if name in facts}
    told |= {"parametrized": parametrized(module), "frozen": trained.frozen(folder, module)}
    return folder.path, (unparametrized(module.eval()), told)


def _alike(given: Data, told: dict[str, Any]) -> Data:
    """A user's own data as the parent knows its own: pixels scaled as those were, and labels by the same names."""
    numbered = given.classes == [str(i) for i in range(len(given.classes))]
    return dataclasses.replace(
        given,
        mean=tuple(told.get("mean", ())),
        std=tuple(told.get("std", ())),
        classes=told["classes"] if numbered else given.classes,
    )


def named(spec: Spec, parts: dict[str, Any]) -> Spec:
    """The spec with the names of the user's own model, data and strategy in it; one that lacks them is refused."""
    for name, field in OWN.items():
        value = getattr(spec, field)
        if name in parts:
            spec = spec.replace(**{field: CELL + shipping.name(parts[name])})
        elif value.startswith(CELL) and not spec.parent:
            raise SpecError(
                f"{field}={value!r} was defined in a notebook: pass it again as lab.launch(spec, {name}=...), or "
                "repeat its run with `lepton-lab run --like RUN_ID`"
            )
    return spec


def repeat(run: Run, **changes: Any) -> Run:
    """
    Launch a run like another, with the code that was shipped with it; `changes` are Spec fields.

    Raises
    ------
    SpecError
        If a change is refused.
    """
    return start(copy(run.folder, run.spec.replace(**changes)))[0]


def copy(source: Path, spec: Spec) -> RunFolder:
    """The folder of a run that is not started yet, with the code that was shipped with another."""
    RunFolder(source)  # refused where there is none, and so no code
    devices.choose(spec)
    replaced = {name for name, field in OWN.items() if field not in spec.own}
    if "data" in replaced:
        datasets.check(spec.dataset, data_root())
    if spec.parent:
        return _child(spec, {}, source)
    return RunFolder.create(spec, lambda draft: shipping.carry(source, draft, replaced))


def start(*folders: RunFolder) -> list[Run]:
    """Start fresh runs, one after the other, and return at once; the kernel may go, they need it no more."""
    submitted: list[tuple[RunFolder, int]] = []
    try:
        for folder in folders:
            lock = folder.lock()
            assert lock is not None, "a fresh folder has no other owner"
            submitted.append((folder, lock))
        for folder in folders[1:]:
            folder.note(reason="waits for its turn")
    except BaseException as error:
        for _, lock in submitted:
            os.close(lock)
        if isinstance(error, LabError):  # locks can't be had there, now or later
            for folder in folders:
                shutil.rmtree(folder.path, ignore_errors=True)
        if isinstance(error, OSError):
            raise LabError(
                f"the run folder {str(folder.path)!r} can't be written ({why(error, folder.path)}): "
                f"{remedy(error)}, then go on with lab.attach({folder.id!r}).resume()"
            ) from None
        raise
    submit(*submitted)
    return [Run(folder) for folder in folders]
