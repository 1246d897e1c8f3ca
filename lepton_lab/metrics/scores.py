"""
What outputs score: classes of which one is right, or a yes or no for each of several labels.

Legend of the shape comments: B samples, K classes, L labels, ... places of a sample (tokens, pixels).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..answers import class_axis
from ..losses import ignored

if TYPE_CHECKING:
    from torch import Tensor

    from ..objectives import Criterion


def of_classes(output: Any, target: Any, criterion: Criterion) -> tuple[Tensor, Tensor] | None:
    """
    Outputs as scores (B, ..., K), and targets as labels (B, ...); None where they are none of classes.

    They are taken for logits, as torch's losses take them.
    """
    if not (hasattr(output, "movedim") and hasattr(target, "dim")) or target.is_floating_point():
        return None
    axis = class_axis(output.shape, target.shape, tokens=criterion.last(target))
    return None if axis is None else (precise(output.movedim(axis, -1)), target)


def of_labels(output: Any, target: Any) -> tuple[Tensor, Tensor] | None:
    """Outputs as logits (B, L) of yes, and targets as 0 or 1 (B, L), of one label or several; None of anything else."""
    if not (hasattr(output, "numel") and hasattr(target, "dim")) or output.numel() != target.numel():
        return None
    shape = (len(target), -1)
    return precise(output.reshape(shape)), target.reshape(shape)


def counting(labels: Tensor, classes: int, criterion: Criterion) -> Tensor:
    """Which labels (B, ...) count: those that the loss does not ignore, and the model knows."""
    return (labels != ignored(criterion.loss)) & (labels >= 0) & (labels < classes)


def doubted(k: int, candidates: int) -> str:
    """What is to be said of the first `k` of so many candidates, where these are all; else ""."""
    if k < candidates:
        return ""
    return f"looks at the first {k} of {candidates} candidates, which are all of them: set options={{'k': ...}} lower"


def precise(scores: Tensor) -> Tensor:
    """Scores in float32 at least."""
    return scores if scores.element_size() > 4 else scores.float()
