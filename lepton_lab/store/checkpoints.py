"""What a checkpoint holds: a fresh folder for each step, with tensors and one file a rank; saved, and taken up."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import LabError
from .folder import RunFolder
from .states import memory, random_state, recall, seed_all, set_random_state
from .tensors import AVERAGE, TENSORS, Unreadable, load_average, load_tensors, quiet, read

if TYPE_CHECKING:
    from torch import nn

    from ..strategies.base import Single

KEEP = 2  # complete checkpoints that stay on disk: if the last can't be read, the one before it is taken


class NonFinite(LabError, ArithmeticError):
    """A loss or a parameter became NaN or infinite, at `step`."""

    def __init__(self, message: str, step: int) -> None:
        super().__init__(message)
        self.step = step


def save(
    folder: RunFolder, strategy: Single, step: int, progress: dict[str, Any], average: Mapping[str, Any] = {}
) -> None:
    """
    Save model, optimizer, this rank's random state and the progress of training; every rank calls it.

    Tensors go through torch.distributed.checkpoint under the names of the plain model, each rank writing what it
    holds, so that any strategy and world can take them up; so does an `average` of the weights, by their names. What
    belongs to a rank goes into a file of its own.

    KEEP checkpoints stay, and the one that is the best so far by the progress of each of them.

    Raises
    ------
    NonFinite
        If a parameter is not finite: the checkpoint before stays the last good one.
    """
    import torch
    import torch.distributed.checkpoint as dcp

    _finite(strategy, step)
    draft = folder.draft(step)
    if folder.clears(strategy.rank):
        shutil.rmtree(draft, ignore_errors=True)  # what a crash cut off
        draft.mkdir(parents=True)
    strategy.barrier()
    writer = dcp.FileSystemWriter(draft / TENSORS, sync_files=True, overwrite=False)
    # What several ranks hold is written by the first of them: buffers such as batch norm's may differ.
    planner = dcp.DefaultSavePlanner(dedup_save_to_lowest_rank=True)
    with quiet():
        state = strategy.state_dict() | ({AVERAGE: dict(average)} if average else {})
        dcp.save(state, storage_writer=writer, planner=planner, no_dist=strategy.alone)
    record = {
        "ranks": _ranks(strategy),
        "progress": progress,
        "random": random_state(strategy.device),
        "local": strategy.local_state(),
        "memory": memory(strategy.running),
    }
    with (draft / f"rank{strategy.rank}.pt").open("wb") as file:
        torch.save(record, file)
        os.fsync(file.fileno())
    strategy.barrier()
    folder.commit(step, strategy.rank)
    if strategy.rank == 0:
        before, now = folder.facts.get("best"), best(folder, progress)
        spared = {one["step"] for one in (before, now) if one}
        # What was steered the checkpoint holds from now on.
        folder.note(checkpoint=step, skipped=None, steered={}, extended=None, best=now)
        folder.discard([step for step in folder.checkpoints()[:-KEEP] if step not in spared])


def best(folder: RunFolder, progress: dict[str, Any]) -> dict[str, Any] | None:
    """The best figure so far of what the spec's `keep_best` names, and its step; None before the first."""
    if progress.get("best") is None:
        return None
    return {"metric": folder.spec.keep_best, "figure": progress["best"], "step": progress["best_step"]}


def load(
    folder: RunFolder, strategy: Single, tell: Callable[[str], object], average: Mapping[str, Any] = {}
) -> dict[str, Any] | None:
    """
    Take up the last complete checkpoint on every rank; returns its progress, or None if there is none.

    An `average` of the weights is read into its tensors, by their names.

    It may have been saved by another strategy or world. The next step is then the same to rounding; under the same
    ones, bit for bit. If it can't be read, the one before it is taken, and `tell` is called with a sentence.

    Raises
    ------
    LabError
        If there are some, and none can be read.
    """
    steps = folder.checkpoints()
    for step in reversed(steps):
        path = folder.checkpoint(step)
        try:
            record = _record(path, strategy)
            load_tensors(path, strategy.module, strategy.optimizer, alone=strategy.alone, average=average)
        except Unreadable as error:
            if step == steps[0]:
                raise
            if strategy.rank == 0:
                _skip(folder, step, str(error), tell)
        else:
            set_random_state(record["random"], strategy.device)
            recall(strategy.running, record.get("memory", {}))  # older ones have none
            if record["ranks"] == _ranks(strategy):
                strategy.load_local_state(record["local"])
                return record["progress"]
            # One of each part takes up the epoch's figures. Ranks that share rank 0's draws go on with them.
            progress = record["progress"]
            if strategy.stream:
                seed_all(strategy.spec.seed, strategy.stream, progress["step"])
            return progress | {"sums": [total * (strategy.part == 0) for total in progress["totals"]]}
    return None


def _record(path: Path, strategy: Single) -> dict[str, Any]:
    """What a rank takes up beside the tensors: its own file where ranks are as they were, else that of rank 0."""
    first = read(path / "rank0.pt")
    if first["ranks"] != _ranks(strategy):
        return first
    # All ranks read all files, so that they agree on whether the checkpoint is good.
    return [first, *(read(path / f"rank{rank}.pt") for rank in range(1, strategy.world))][strategy.rank]


def _skip(folder: RunFolder, step: int, why: str, tell: Callable[[str], object]) -> None:
    """Count a checkpoint no more, and say why."""
    folder.distrust(step)
    text = f"{why}; the one before it is taken, of step {folder.checkpoints()[-1]}"
    folder.note(skipped=text)
    tell(text)


def newest(folder: RunFolder, module: nn.Module, averaged: bool = False) -> None:
    """
    Read the last checkpoint into a module, see `restore`.

    If only one before it can be read, that is taken, with a warning.

    Raises
    ------
    LabError
        If none can be read, or it lacks what the module has.
    """
    steps = folder.checkpoints()
    for step in reversed(steps):
        try:
            restore(folder.checkpoint(step), module, averaged)
            return
        except Unreadable as error:
            if step == steps[0]:
                raise
            warnings.warn(f"{error}; this is the model of the one before it", stacklevel=3)


def restore(path: Path, module: nn.Module, averaged: bool = False) -> None:
    """
    Read a checkpoint into a module: its tensors, and what it keeps beside them, as rank 0 had it.

    If it is to be `averaged`, the average of its weights takes their place.

    Raises
    ------
    LabError
        If it can't be read, or lacks what is asked for.
    """
    load_tensors(path, module)
    if averaged:
        load_average(path, module)
    for file in sorted(path.glob("rank*.pt"), reverse=True):  # each rank of a pipeline has other layers
        recall(module, read(file).get("memory", {}))


def _ranks(strategy: Single) -> list[Any]:
    """What must be the same for a rank to take up what belongs to it."""
    return [strategy.spec.strategy, strategy.world, strategy.parts]


def _finite(strategy: Single, step: int) -> None:
    import torch

    for name, parameter in strategy.module.named_parameters():
        part = parameter.to_local() if hasattr(parameter, "to_local") else parameter
        if not torch.isfinite(part).all():
            raise NonFinite(f"parameter {name!r} is NaN or infinite after step {step}: lower lr, or set clip", step)
