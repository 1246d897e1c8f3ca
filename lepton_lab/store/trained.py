"""A run's module: the trained one, or what a chain of compressors has made of its parent's by now; and the parent's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import datasets, models
from ..errors import LabError, SpecError, unknown
from ..files import read_json, write_json
from ..preparation import with_files
from ..watched import EMA, divided
from . import checkpoints, shipping
from .folder import RunFolder

if TYPE_CHECKING:
    from torch import nn

    from ..datasets import Data

CHECKPOINTS = ("last", "best", "ema")
"""Which model of a run, see `model`."""
LINKS = "links"  # folder in a run's, with a folder in it for each round of its chain
BEGUN, DONE = "begun.pt", "done.pt"
"""In the folder of a round: the module as its fine-tuning begins, and as the round ends; written last."""
PARENT = "parent"  # name in LINKS of the copy of the parent's module, and of the facts of its data
CONTROL = "control"
"""Folder in LINKS of the parent trained on for as long as the chain was: what compression alone cost."""
ARTIFACT = "artifact.lepton"  # in the folder of a run that compressed: the file that it ended in


def place(folder: RunFolder, number: int | str) -> Path:
    """The folder of a round of a run's chain."""
    return folder.path / LINKS / str(number)


def trained(folder: RunFolder) -> bool:
    """Whether there is a module yet that `model` can give."""
    return bool(folder.checkpoints() or (folder.spec.compress and place(folder, 0).joinpath(DONE).exists()))


def model(folder: RunFolder, checkpoint: str = "last") -> nn.Module:
    """
    The module of a run, on the CPU and in eval mode, from the last checkpoint, or the round that ended last.

    Parameters
    ----------
    checkpoint
        One of CHECKPOINTS: "last"; "best", the one of the best figure that `keep_best` names; "ema", the last with the
        averaged weights.

    Raises
    ------
    LabError
        If there is none yet, or the run keeps no such.
    """
    return made(folder, checkpoint).eval()


def made(folder: RunFolder, checkpoint: str = "last") -> nn.Module:
    """As `model`, but with only those parts in eval mode that its maker set so, where it was not compressed yet."""
    if why := _lacks(folder, checkpoint):
        raise LabError(f"run {folder.id!r} {why}")
    if folder.spec.compress:
        return _chained(folder)
    facts = folder.facts
    sample = (tuple(facts["shape"]), len(facts["classes"]), facts.get("vocabulary", 0))
    shipped = shipping.unpack(folder, ("model",))
    module = models.make(folder.spec, sample, shipped.get("model"))
    if checkpoint == "best":
        best = folder.facts["best"]
        checkpoints.restore(folder.checkpoint(best["step"]), module, divided(best["metric"])[0].endswith(EMA))
    else:
        checkpoints.newest(folder, module, checkpoint == "ema")
    return module


def _lacks(folder: RunFolder, checkpoint: str) -> str:
    """Why a run has no such checkpoint, as the end of a sentence; "" where it has."""
    if checkpoint not in CHECKPOINTS:
        raise SpecError(f"checkpoint={checkpoint!r}: {unknown('checkpoint', str(checkpoint), CHECKPOINTS)}")
    spec = folder.spec
    if spec.compress and checkpoint != "last":
        return f"compresses, and keeps the last module of its chain alone: take checkpoint='last', not {checkpoint!r}"
    if checkpoint == "best" and not spec.keep_best:
        return "keeps no best checkpoint: that is asked for at the launch, as in lab.Spec(keep_best='val_accuracy')"
    if checkpoint == "ema" and not spec.ema:
        return "keeps no average of its weights: that is asked for at the launch, as in lab.Spec(ema=0.999)"
    if checkpoint == "best" and not folder.facts.get("best"):
        return f"has no best checkpoint yet: the first evaluation with a {spec.keep_best} saves one"
    return "" if trained(folder) else "has no checkpoint yet: run.checkpoint() saves one"


def frozen(folder: RunFolder, module: nn.Module) -> list[str]:
    """Names of the parts of a run's module, see `made`, that its maker set to evaluation: a frozen batch norm, say."""
    if folder.spec.compress:
        return parent_facts(folder.path).get("frozen", [])
    return [name for name, part in module.named_modules() if not part.training] if module.training else []


def freeze(module: nn.Module, names: list[str]) -> None:
    """Set a module to training but for the parts of these names, and what a compressor put in their place."""
    module.train()
    for name, part in module.named_modules():
        if any(name == other or name.startswith(f"{other}.") for other in names):
            part.training = False


def _chained(folder: RunFolder) -> nn.Module:
    number = 0
    while place(folder, number).joinpath(DONE).exists():
        number += 1
    begun = place(folder, number) / BEGUN
    if begun.exists() and folder.checkpoints():  # they are of the round at hand
        module = shipping.kept(begun)
        checkpoints.newest(folder, module)
        return module
    return shipping.kept(place(folder, number - 1) / DONE)


def peers(folder: RunFolder) -> tuple[nn.Module, nn.Module | None]:
    """What a chain's artifact is compared with: the parent's module, and the control where there is one by now."""
    control = place(folder, CONTROL) / DONE
    dense = shipping.kept(parent(folder.path)).eval()
    return dense, shipping.kept(control).eval() if control.exists() else None


def parent(folder: Path) -> Path:
    """The file in a run's folder with a copy of its parent's module."""
    return folder / LINKS / f"{PARENT}.pt"


def parent_facts(folder: Path) -> dict[str, Any]:
    """What is known of the data and the parts of a run's parent; {} for a run without one."""
    return read_json(parent(folder).with_suffix(".json")) or {}


def data(folder: RunFolder, own: Data | None = None) -> Data:
    """
    The data of a run after its transforms: the user's own that were shipped, else those that its spec names.

    Where it compresses another's model, numbers are scaled as that run's were, whatever its own data say.
    """
    loaded, parent = datasets.load(with_files(folder.spec, folder.path), own), parent_facts(folder.path)
    if "unit" not in parent:
        return loaded
    return replace(loaded, mean=tuple(parent["mean"]), std=tuple(parent["std"]), unit=parent["unit"])


def adopt(folder: Path, module: nn.Module, facts: dict[str, Any]) -> None:
    """
    Put the parent's module into the folder of a run that is being made.

    Parameters
    ----------
    facts
        Shape, classes (their names) and vocabulary of the parent's data.
    """
    (folder / LINKS).mkdir()
    shipping.keep(module, parent(folder))
    write_json(parent(folder).with_suffix(".json"), facts)


def adopted(folder: Path) -> tuple[nn.Module, dict[str, Any]] | None:
    """What `adopt` put into a run's folder, or None."""
    facts = parent_facts(folder)
    return (shipping.kept(parent(folder)), facts) if facts else None
