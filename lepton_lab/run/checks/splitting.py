"""What a strategy can do with a spec, a task, its batches and its model."""

from __future__ import annotations

from ... import datasets
from ...batches import described
from ...engine import trials
from ...errors import SpecError
from ...spec import Spec
from ...store.folder import RunFolder
from ...strategies import STRATEGIES
from ...strategies.base import Single
from ...strategies.group import Group
from ...tables import meant, trait
from ...tasks import TASKS, Task, stepping
from ...values import called
from ..own import Own


def steps(spec: Spec, own: Own) -> None:
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


def passes(spec: Spec) -> None:
    """Refuse a task that calls the model with more than a strategy passes on."""
    task = meant(spec.task, spec.dataset)
    if not STRATEGIES.get(spec.strategy, Single).nests and spec.world > 1 and trait("task", task, "nests"):
        raise SpecError(
            f"strategy={spec.strategy!r} passes one tensor from layer to layer, but task={task!r} calls the model "
            "with more; take strategy='ddp' or 'fsdp'"
        )


def nests(spec: Spec, own: Own, like: RunFolder | None) -> None:
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


def fits(spec: Spec, own: Own) -> None:
    """Refuse a model that the strategy can't split, as a copy without memory tells."""
    strategy = STRATEGIES.get(spec.strategy, Single)
    if spec.world == 1 or strategy.fits is Single.fits:
        return
    if own.model is None and ("model" in spec.own or not spec.options.get("sequence_parallel")):
        return  # names and options have told all, or nothing more is at hand
    data = own.splits(spec) or datasets.load(spec)
    if (module := own.bare(spec, data)) is not None:
        trials.tried(lambda: strategy(spec, **spec.options_of(strategy)).fits(module, trials.samples(data, 1)))
