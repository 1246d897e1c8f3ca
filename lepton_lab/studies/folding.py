"""Folds of a cross validation as specs: each holds out its own part of the training samples."""

from __future__ import annotations

from itertools import takewhile
from typing import Any

from ..errors import SpecError
from ..links import links
from ..run.handle import Run
from ..spec import Spec
from ..tables import table

FOLD = "fold"
"""The transform that holds a part out."""


def folded(spec: Spec, number: int, folds: int) -> Spec:
    """
    The spec of one fold: held out after what takes samples out, and before what augments batches.

    Before what learns from samples or copies them too, since a copy in another fold would tell the label.
    """
    chosen = [*spec.transforms]
    once = [*takewhile(lambda item: not _later(item), chosen)]
    fold = {FOLD: {"number": number, "folds": folds}}
    name = f"{spec.name or 'label errors'}, fold {number + 1} of {folds}"[:80]
    return spec.replace(transforms=[*once, fold, *chosen[len(once) :]], name=name)


def _later(item: dict[str, Any]) -> bool:
    """Whether a transform copies samples, learns from them or changes them in training."""
    ((name, options),) = links([item])
    member = table("transform")[name]
    return bool(member.augments or member.fits or member.copies(**options))


def whole(spec: Spec) -> Spec:
    """The spec of which a fold was made, without what comes after the fold."""
    return spec.replace(transforms=[*takewhile(lambda item: FOLD not in item, spec.transforms)])


def place_of(run: Run) -> tuple[int, int]:
    """Number and count of folds of a run."""
    for name, options in links(run.spec.transforms):
        if name == FOLD:
            return options["number"], options["folds"]
    raise SpecError(f"runs: {run.id!r} is no fold of a cross validation; lab.find_label_errors(spec) starts such")
