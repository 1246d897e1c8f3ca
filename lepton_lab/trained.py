"""A run's module: the trained one, or what a chain of compressors has made of its parent's by now."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from . import checkpoints, models, shipping
from .folders import RunFolder
from .spec import LabError

if TYPE_CHECKING:
    from torch import nn

LINKS = "links"  # folder in a run's, with a folder in it for each round of its chain
BEGUN, DONE = "begun.pt", "done.pt"
"""In the folder of a round: the module as its fine-tuning begins, and as the round ends; written last."""


def place(folder: RunFolder, number: int | str) -> Path:
    """The folder of a round of a run's chain."""
    return folder.path / LINKS / str(number)


def trained(folder: RunFolder) -> bool:
    """Whether there is a module yet that `model` can give."""
    return bool(folder.checkpoints() or (folder.spec.compress and place(folder, 0).joinpath(DONE).exists()))


def model(folder: RunFolder) -> nn.Module:
    """
    The module of a run, on the CPU and in eval mode, from the last checkpoint, or the round that ended last.

    Raises
    ------
    LabError
        If there is none yet.
    """
    if not trained(folder):
        raise LabError(f"run {folder.id!r} has no checkpoint yet: run.checkpoint() saves one")
    if folder.spec.compress:
        return _chained(folder).eval()
    facts = folder.facts
    told = (tuple(facts["shape"]), len(facts["classes"]), facts.get("vocabulary", 0))
    shipped = shipping.unpack(folder, ("model",))
    if "model" in shipped:
        module = shipping.build(shipped["model"], *told)
    else:
        maker = models.MODELS[folder.spec.model]
        module = maker(*told, **folder.spec.options_of(maker))
    checkpoints.load_tensors(folder.checkpoint(folder.checkpoints()[-1]), module)
    return module.eval()


def _chained(folder: RunFolder) -> nn.Module:
    number = 0
    while place(folder, number).joinpath(DONE).exists():
        number += 1
    begun, saved = place(folder, number) / BEGUN, folder.checkpoints()
    if begun.exists() and saved:  # they are of the round at hand
        module = shipping.kept(begun)
        checkpoints.load_tensors(folder.checkpoint(saved[-1]), module)
        return module
    return shipping.kept(place(folder, number - 1) / DONE)
