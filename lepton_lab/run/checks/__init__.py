"""
May this run? Asked once, before anything starts: of spec, strategy, devices, data, chain and model, in this order.

Each refuses in a sentence of its own. A new rule goes into the file of what it concerns; launch, compress, race,
advise, grids, searches and the form then have it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ... import datasets, tasks
from ...errors import SpecError
from ...files import data_root
from ...launchers import HERE, Launcher, devices
from ...preparation import outlined
from ...spec import CELL, OWN, Spec
from ...store import shipping
from ...store.finding import find
from ...store.folder import RunFolder
from ...values import called
from ..own import Own
from . import compressing, matching, splitting

if TYPE_CHECKING:
    from ...datasets import Data
    from ...tasks import Task
    from .compressing import Parent


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


def checks(spec: Spec, own: Own | None = None, like: Path | None = None, on: Launcher = HERE) -> Allowed:
    """
    Refuse what can be seen to fail, before anything starts.

    With `like`, the folder of another run, it is to train with the code that was shipped with that; `on` has it done by
    other machines. A SpecError or LabError says in one sentence what would do.
    """
    own = own or Own()
    if like is not None:
        RunFolder(like)  # refused where there is none, and so no code
    spec = named(spec, own.parts, like is not None)
    matching.watches(spec, own, like)
    matching.mixes(spec, own)
    shipped = RunFolder(like) if like is not None and not spec.parent else None
    device = splits(spec, replace(own, task=shipped_task(shipped)) if shipped else own, on, like=shipped)
    return trains(spec, device, own, like)


def named(spec: Spec, parts: dict[str, Any], shipped: bool = False) -> Spec:
    """
    The spec with the names of the user's own in it, and a data set's path in full.

    One that lacks what was defined in a notebook is refused, but where that is shipped.
    """
    if not isinstance(spec, Spec):
        raise SpecError(f"launch takes a Spec, not a {type(spec).__name__}: lab.launch(lab.Spec(...))")
    if "data" not in parts and (settled := datasets.settled(spec.dataset)) != spec.dataset:
        spec = spec.replace(dataset=settled)
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


def splits(spec: Spec, own: Own, on: Launcher = HERE, here: bool = True, like: RunFolder | None = None) -> str:
    """
    Refuse what the strategy can't split over the spec's ranks; gives the device of each, as `Allowed` has it.

    Of all that `checks` asks it is what differs between strategies. The devices of this machine are asked where the
    run is to be `here`, and not `on` others. `like` is the run whose shipped data it trains on, which tells what their
    batches are.
    """
    shares(spec, own)
    on.check(spec)
    device = _device(spec, on) if here else ""
    if not spec.parent:
        splitting.nests(spec, own, like)
        splitting.fits(spec, own)
    return device


def shares(spec: Spec, own: Own) -> None:
    """Refuse what the strategy can't do with a spec and a task, as names tell: what of `splits` makes no model."""
    spec.check_strategy()
    if own.strategy is not None and "strategy" in spec.own and (why := own.strategy.refuse(spec)):
        raise SpecError(why)
    if not spec.parent:
        splitting.steps(spec, own)
        splitting.passes(spec)


def trains(spec: Spec, device: str, own: Own, like: Path | None = None) -> Allowed:
    """Refuse data and models that don't go together: the rest of `checks`, alike for all strategies."""
    parts, data = own.parts, own.splits(spec)
    if data is not None:
        parts["data"] = own.raw(spec)
    elif "dataset" not in spec.own:
        datasets.check(spec.dataset, data_root(), spec.options)
        outlined(spec)
    if spec.parent:
        spec, parent = compressing.compresses(spec, own, parts, like)
        return Allowed(spec, device, parts, parent, like)
    matching.means(spec, data)
    task = None
    if data is not None and (own.task is not None or "task" not in spec.own):
        task = tasks.make(spec, data, own.loss, own.task)
    matching.suits(spec, task.data if task else data)
    if task is not None:
        matching.agrees(spec, own, task)
    matching.counts(spec, own, task, like)  # after the task has seen the model, by which it may know what answers are
    return Allowed(spec, device, parts, like=like)


def glance(spec: Spec, data: Data | None = None, own: Own | None = None, on: Launcher = HERE) -> Allowed:
    """What of `checks` reads no data and makes no model: for a form, at every change, and for the runs of a grid."""
    shares(spec, own := own or Own())
    matching.watches(spec, own, None)
    matching.mixes(spec, own)
    on.check(spec)
    device = _device(spec, on)
    if data is None and "dataset" not in spec.own:
        datasets.check(spec.dataset, data_root(), spec.options)
        outlined(spec)
    matching.means(spec, data)
    matching.suits(spec, data)
    spec = spec.replace(parent=find(spec.parent).id) if spec.parent else spec
    return Allowed(spec, device, {})


def _device(spec: Spec, on: Launcher) -> str:
    """Where a spec computes there; refuses what the process that hands it over can't be told, wherever that is."""
    devices.standby()
    return on.device(spec)


def shipped_task(folder: RunFolder) -> type[Task] | None:
    """The user's own task that was shipped with a run, if it has one."""
    return shipping.unpack(folder, ("task",)).get("task")
