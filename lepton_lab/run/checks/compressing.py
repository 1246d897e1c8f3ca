"""Whether a chain of compressors can be applied to its parent's model."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...chains import mismatch
from ...compressors import rehearse
from ...errors import SpecError
from ...spec import Spec
from ...store import trained
from ...store.finding import find
from ...store.folder import RunFolder
from ...tables import trait
from ...values import called
from ..own import Own

if TYPE_CHECKING:
    from torch import nn

    from ...datasets import Data


INHERITED: tuple[str, ...] = ("shape", "classes", "vocabulary", "mean", "std")
"""Facts of a parent's data that its children need."""


@dataclass(frozen=True)
class Parent:
    """The run whose model a chain begins with."""

    folder: Path
    """Where its code is."""
    module: nn.Module
    """With plain weights, on the CPU."""
    facts: dict[str, Any]
    """What is known of its data, and of its parts."""


def compresses(spec: Spec, own: Own, parts: dict[str, Any], like: Path | None) -> tuple[Spec, Parent]:
    """
    Refuse a chain that can't be applied to its parent's model, and data of which that knows nothing.

    Gives the spec with the parent's id, and the parent; of `parts`, data become those that the parent knows.
    """
    if own.model is not None:
        raise SpecError(f"model={called(own.model)}: the model is that of parent={spec.parent!r}; leave it out")
    if like is not None and (adopted := trained.adopted(like)):  # as another child of it has it, since it may be gone
        parent = Parent(like, *adopted)
    else:
        folder = find(spec.parent)
        if (name := folder.facts.get("task")) and not trait("task", name, "plain"):
            raise SpecError(f"parent={spec.parent!r}: a chain trains on pairs (x, y), and the run's task is {name!r}")
        spec, parent = spec.replace(parent=folder.id), _parent(folder, spec.checkpoint)
    if (data := parts.get("data")) is not None:
        mismatch(parent.facts, spec, *data.sample)
        parts["data"] = _alike(data, parent.facts)
    sample = tuple(parent.facts["shape"]), len(parent.facts["classes"]), parent.facts.get("vocabulary", 0)
    rehearse(parent.module, spec, *sample)
    return spec, parent


def _parent(folder: RunFolder, checkpoint: str) -> Parent:
    """The run of a folder as a parent, with one of its checkpoints."""
    from ...compressors.layers import parametrized, unparametrized

    module, facts = trained.made(folder, checkpoint), folder.facts
    inherited = {name: facts[name] for name in INHERITED if name in facts}
    inherited |= {"parametrized": parametrized(module), "frozen": trained.frozen(folder, module)}
    return Parent(folder.path, unparametrized(module.eval()), inherited)


def _alike(data: Data, facts: dict[str, Any]) -> Data:
    """A user's own data as the parent knows its own: pixels scaled as those were, and labels by the same names."""
    numbered = data.classes == [str(i) for i in range(len(data.classes))]
    return dataclasses.replace(
        data,
        mean=tuple(facts.get("mean", ())),
        std=tuple(facts.get("std", ())),
        classes=facts["classes"] if numbered else data.classes,
    )
