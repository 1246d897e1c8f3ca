"""The tensors of a checkpoint, read back by their names in the plain model."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import LabError
from .trust import require_own

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

TENSORS = "tensors"  # folder in a checkpoint, written by torch.distributed.checkpoint
AVERAGE = "ema"  # beside "model" and "optimizer" in it: the average of the weights


class Unreadable(LabError):
    """A checkpoint that can't be read."""


def load_tensors(
    path: Path,
    module: nn.Module,
    optimizer: Optimizer | None = None,
    alone: bool = True,
    average: Mapping[str, Any] = {},
) -> None:
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
    average
        Tensors to read the average of the weights into, by their names.

    Raises
    ------
    LabError
        If it can't be read, or lacks what the module has.
    """
    import torch.distributed.checkpoint as dcp

    require_own(path / TENSORS / ".metadata")  # a pickle
    reader = dcp.FileSystemReader(path / TENSORS)
    groups = {p: group for group in optimizer.param_groups for p in group["params"]} if optimizer else {}
    parameters = {name: parameter for name, parameter in module.named_parameters() if parameter in groups}
    with readable(path), quiet():
        saved = reader.read_metadata().state_dict_metadata
        room = {name: _room(saved, f"optimizer.{name}.", p, groups[p]) for name, p in parameters.items()}
        state: dict[str, Any] = {"model": module.state_dict(), "optimizer": room}
        state |= {AVERAGE: dict(average)} if average else {}
        dcp.load(state, storage_reader=reader, no_dist=alone)
    module.load_state_dict(state["model"])
    for name, own in state["optimizer"].items():
        if own and optimizer:
            optimizer.state[parameters[name]] = own


def load_average(path: Path, module: nn.Module) -> None:
    """
    Read the average of the weights that a checkpoint holds into a module, in place of its own.

    Raises
    ------
    LabError
        If it can't be read.
    """
    import torch.distributed.checkpoint as dcp

    require_own(path / TENSORS / ".metadata")
    reader = dcp.FileSystemReader(path / TENSORS)
    with readable(path), quiet():
        saved = reader.read_metadata().state_dict_metadata
        values = {name: value for name, value in module.state_dict().items() if f"{AVERAGE}.{name}" in saved}
        dcp.load({AVERAGE: values}, storage_reader=reader, no_dist=True)  # into the module's own memory


def read(path: Path) -> dict[str, Any]:
    """The values of one rank's file, on the CPU; Unreadable if it can't be read."""
    import torch

    with readable(path):
        return torch.load(path, map_location="cpu", weights_only=True)


def _room(saved: dict[str, Any], prefix: str, parameter: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
    """Empty tensors for what was saved of an optimizer under a prefix, split and placed as the parameter is."""
    import torch

    on_device = group.get("fused") or group.get("capturable")  # whose kernels read the number of steps on the device
    room = {}
    for key in (key for key in saved if key.startswith(prefix)):
        name, size, dtype = key.removeprefix(prefix), saved[key].size, saved[key].properties.dtype
        if size == parameter.shape:
            room[name] = torch.zeros_like(parameter, dtype=dtype)
        else:
            device = "cpu" if name == "step" and not on_device else parameter.device
            room[name] = torch.zeros(size, dtype=dtype, device=device)
    return room


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
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
def quiet() -> Iterator[None]:
    """Without the warning that one process saves alone, which here is meant."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is (disabled|unavailable)")
        yield
