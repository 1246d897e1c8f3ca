"""Checkpoints: a fresh folder for each step, tensors and one file a rank in it, a marker last; never over an older."""

from __future__ import annotations

import contextlib
import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import LabError
from .folder import RunFolder
from .states import memory, random_state, recall, seed_all, set_random_state
from .trust import require_own

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

    from ..strategies.base import Single

TENSORS = "tensors"  # folder in a checkpoint, written by torch.distributed.checkpoint
MARKER = "complete"  # an empty file, written when all else is on the disk
KEEP = 2  # complete checkpoints that stay on disk: if the last can't be read, the one before it is taken


class NonFinite(LabError, ArithmeticError):
    """A loss or a parameter became NaN or infinite, at `step`."""

    def __init__(self, message: str, step: int) -> None:
        super().__init__(message)
        self.step = step


class Unreadable(LabError):
    """A checkpoint that can't be read."""


def save(folder: RunFolder, strategy: Single, step: int, progress: dict[str, Any]) -> None:
    """
    Save model, optimizer, this rank's random state and the progress of training; every rank calls it.

    Tensors go through torch.distributed.checkpoint under the names of the plain model, each rank writing what it
    holds, so that any strategy and world can take them up. What belongs to a rank goes into a file of its own.

    Raises
    ------
    NonFinite
        If a parameter is not finite: the checkpoint before stays the last good one.
    """
    import torch
    import torch.distributed.checkpoint as dcp

    path = folder.checkpoint(step)
    _finite(strategy, step)
    draft = path.with_name(f".{path.name}")
    if strategy.rank == 0:
        shutil.rmtree(draft, ignore_errors=True)  # what a crash cut off
        draft.mkdir(parents=True)
    strategy.barrier()
    writer = dcp.FileSystemWriter(draft / TENSORS, sync_files=True, overwrite=False)
    # What several ranks hold is written by the first of them: buffers such as batch norm's may differ.
    planner = dcp.DefaultSavePlanner(dedup_save_to_lowest_rank=True)
    with _quiet():
        dcp.save(strategy.state_dict(), storage_writer=writer, planner=planner, no_dist=strategy.alone)
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
    if strategy.rank == 0:
        for place in (draft / TENSORS, draft):
            _sync(place)  # or a crash of the machine could leave the marker and not what it stands for
        (draft / MARKER).touch()
        old = path.with_name(f".{path.name}.old")
        if path.exists():  # of the same step, before something was steered
            path.rename(old)
        draft.rename(path)
        _sync(path.parent)
        shutil.rmtree(old, ignore_errors=True)
        folder.note(checkpoint=step, skipped=None, steered={})  # which the checkpoint holds from now on
        for step in folder.checkpoints()[:-KEEP]:
            shutil.rmtree(folder.checkpoint(step), ignore_errors=True)


def load(folder: RunFolder, strategy: Single, tell: Callable[[str], object]) -> dict[str, Any] | None:
    """
    Take up the last complete checkpoint on every rank; returns its progress, or None if there is none.

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
            load_tensors(path, strategy.module, strategy.optimizer, alone=strategy.alone)
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
    """Count a checkpoint no more; it stays on disk, for whoever wants to look."""
    (folder.checkpoint(step) / MARKER).rename(folder.checkpoint(step) / "unreadable")
    text = f"{why}; the one before it is taken, of step {folder.checkpoints()[-1]}"
    folder.note(skipped=text)
    tell(text)


def newest(folder: RunFolder, module: nn.Module) -> None:
    """
    Read the last checkpoint into a module: its tensors, and what it keeps beside them, as rank 0 had it.

    If only one before it can be read, that is taken, with a warning.

    Raises
    ------
    LabError
        If none can be read, or it lacks what the module has.
    """
    steps = folder.checkpoints()
    for step in reversed(steps):
        path = folder.checkpoint(step)
        try:
            load_tensors(path, module)
            for file in sorted(path.glob("rank*.pt"), reverse=True):  # each rank of a pipeline has other layers
                recall(module, read(file).get("memory", {}))
            return
        except Unreadable as error:
            if step == steps[0]:
                raise
            warnings.warn(f"{error}; this is the model of the one before it", stacklevel=3)


def clear(folder: RunFolder) -> None:
    """Remove all checkpoints: what they lead to is kept in another form."""
    for path in (folder.path / "checkpoints").glob("step-*"):
        (path / MARKER).unlink(missing_ok=True)  # first: a half-removed one must not be taken for whole
        shutil.rmtree(path, ignore_errors=True)


def _ranks(strategy: Single) -> list[Any]:
    """What must be the same for a rank to take up what belongs to it."""
    return [strategy.spec.strategy, strategy.world, strategy.parts]


def load_tensors(path: Path, module: nn.Module, optimizer: Optimizer | None = None, alone: bool = True) -> None:
    """
    Read a checkpoint's tensors into a module, and into an optimizer of its parameters, split as these are.

    Parameters
    ----------
    path
        Folder of the checkpoint.
    module, optimizer
        Names in the module are those in the checkpoint; it may hold some of them only.
    alone
        Whether this process reads by itself, without the other ranks.

    Raises
    ------
    LabError
        If it can't be read, or lacks what the module has.
    """
    import torch.distributed.checkpoint as dcp

    require_own(path / TENSORS / ".metadata")  # a pickle
    reader = dcp.FileSystemReader(path / TENSORS)
    optimized = {p for group in optimizer.param_groups for p in group["params"]} if optimizer else set()
    parameters = {name: parameter for name, parameter in module.named_parameters() if parameter in optimized}
    with _readable(path), _quiet():
        saved = reader.read_metadata().state_dict_metadata
        room = {name: _room(saved, f"optimizer.{name}.", parameter) for name, parameter in parameters.items()}
        state: dict[str, Any] = {"model": module.state_dict(), "optimizer": room}
        dcp.load(state, storage_reader=reader, no_dist=alone)
    module.load_state_dict(state["model"])
    for name, own in state["optimizer"].items():
        if own and optimizer:
            optimizer.state[parameters[name]] = own


def read(path: Path) -> dict[str, Any]:
    """The values of one rank's file, on the CPU; Unreadable if it can't be read."""
    import torch

    with _readable(path):
        return torch.load(path, map_location="cpu", weights_only=True)


def _room(saved: dict[str, Any], prefix: str, parameter: Tensor) -> dict[str, Tensor]:
    """Empty tensors for what was saved of an optimizer under a prefix, split and placed as the parameter is."""
    import torch

    room = {}
    for key in (key for key in saved if key.startswith(prefix)):
        size, dtype = saved[key].size, saved[key].properties.dtype
        alike = size == parameter.shape
        empty = torch.zeros_like(parameter, dtype=dtype) if alike else torch.zeros(size, dtype=dtype)
        room[key.removeprefix(prefix)] = empty
    return room


def _sync(path: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _finite(strategy: Single, step: int) -> None:
    import torch

    for name, parameter in strategy.module.named_parameters():
        part = parameter.to_local() if hasattr(parameter, "to_local") else parameter
        if not torch.isfinite(part).all():
            raise NonFinite(f"parameter {name!r} is NaN or infinite after step {step}: lower lr, or set clip", step)


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """A file that can't be read, as a sentence."""
    from torch.distributed.checkpoint import CheckpointException

    try:
        yield
    except (Exception, CheckpointException) as error:  # damaged bytes raise whatever they are taken for
        if isinstance(error, LabError):
            raise
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise Unreadable(f"checkpoint {str(path)!r} can't be read: {reason}") from None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the warning that one process saves alone, which here is meant."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is (disabled|unavailable)")
        yield
