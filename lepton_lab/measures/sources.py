"""A model with what is known of it, from a run or a module."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import datasets
from ..artifacts.about import About
from ..datasets import length, rows
from ..errors import LabError
from ..store import shipping

if TYPE_CHECKING:
    from torch import nn

    from ..datasets import Data


@dataclass
class Source:
    """A module; and where it is a run's, the data and what they tell of it."""

    module: nn.Module
    about: About | None = None
    data: Data | None = None
    name: str = ""


def source(model: Any) -> Source:
    """
    What a run or a module brings.

    Raises
    ------
    LabError
        If it is neither.
    """
    import torch

    if isinstance(model, torch.nn.Module):
        return Source(model, name=type(model).__name__)
    if not hasattr(model, "spec") or not callable(getattr(model, "model", None)):
        kind = type(model).__name__
        raise LabError(f"model={str(model)[:60]!r}: must be a run or a torch module, and is of type {kind}")
    spec, data = model.spec, run_data(model)
    about = About.of(data, spec, chain=list(spec.compress), parent=spec.parent)
    return Source(model.model(), about, data, model.name or spec.model)


def run_data(run: Any) -> Data:
    """The data that a run was trained on; raises what loading it does."""
    return shipping.unpack(run.store, ("data",)).get("data") or datasets.load(run.spec)


def some(split: Any, count: int, seed: int = 0) -> Any:
    """Raw samples (count, *shape) of a split, drawn by a seed."""
    import torch

    drawn = torch.randperm(length(split), generator=torch.Generator().manual_seed(seed))[:count]
    return rows(split, drawn.tolist())[0]
