"""Checkpoints: a fresh folder for each step, one file a rank, a marker last; never over an older one."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .folders import RunFolder
from .spec import LabError

if TYPE_CHECKING:
    from .strategies.base import Single

KEEP = 2  # complete checkpoints that stay on disk


class NonFinite(LabError, ArithmeticError):
    """A loss or a parameter became NaN or infinite, at `step`."""

    def __init__(self, message: str, step: int) -> None:
        super().__init__(message)
        self.step = step


def save(folder: RunFolder, strategy: Single, step: int, progress: dict[str, Any]) -> None:
    """
    Save model, optimizer, this rank's random state and the progress of training; every rank calls it.

    Raises
    ------
    NonFinite
        If a parameter is not finite: the checkpoint before stays the last good one.
    """
    import torch

    path = folder.checkpoint(step)
    for name, parameter in strategy.module.named_parameters():
        if not torch.isfinite(parameter).all():
            raise NonFinite(f"parameter {name!r} is NaN or infinite after step {step}: lower lr, or set clip", step)
    draft = path.with_name(f".{path.name}")
    if strategy.rank == 0:
        shutil.rmtree(draft, ignore_errors=True)  # what a crash cut off
        draft.mkdir(parents=True)
    _barrier(strategy)
    state = {"progress": progress, "random": random_state(strategy.device), **strategy.state_dict()}
    torch.save(state, draft / f"rank{strategy.rank}.pt")
    _barrier(strategy)
    if strategy.rank == 0:
        (draft / "complete").touch()
        if path.exists():  # of the same step, before something was steered
            path.rename(old := path.with_name(f".{path.name}.old"))
            shutil.rmtree(old)
        draft.rename(path)
        folder.note(checkpoint=step)
        for step in folder.checkpoints()[:-KEEP]:
            shutil.rmtree(folder.checkpoint(step), ignore_errors=True)


def load(folder: RunFolder, strategy: Single) -> dict[str, Any] | None:
    """Take up the last complete checkpoint on every rank; returns its progress, or None if there is none."""

    steps = folder.checkpoints()
    if not steps:
        return None
    path = folder.checkpoint(steps[-1])
    state = read(path / "rank0.pt")
    strategy.load_state_dict(state)
    own = path / f"rank{strategy.rank}.pt"
    state = read(own) if own.exists() else state  # on more ranks than saved it, the new ones draw as rank 0 did
    set_random_state(state["random"], strategy.device)
    return state["progress"]


def read(path: Path) -> dict[str, Any]:
    """The tensors and values of one checkpoint file, on the CPU."""
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError) as error:
        raise LabError(f"checkpoint {str(path)!r} can't be read: {str(error).splitlines()[0]}") from None


def random_state(device: Any) -> dict[str, Any]:
    """State of every generator that a rank may draw from."""
    import numpy as np
    import torch

    cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    name, keys, *rest = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        "cuda": cuda,
        "numpy": (name, torch.from_numpy(keys.astype("int64")), *rest),
        "python": random.getstate(),
    }


def set_random_state(state: dict[str, Any], device: Any) -> None:
    """Undo what was drawn since `random_state`."""
    import numpy as np
    import torch

    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype("uint32"), *rest))
    random.setstate(state["python"])


def _barrier(strategy: Single) -> None:
    import torch

    strategy.total(torch.zeros(1, device=strategy.device)).sum().item()
