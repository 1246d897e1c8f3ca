"""
What a model's outputs say: along which axis they score classes, and how many of the answers are right.

Legend of the shape comments: B samples, K classes, T tokens, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


@lru_cache(maxsize=64)  # asked in each step, of few shapes
def class_axis(
    scores: tuple[int, ...], target: tuple[int, ...] | None = None, *, classes: int = 0, tokens: bool = False
) -> int | None:
    """
    The axis along which outputs score classes; None where they are no scores of one class out of many.

    One label a sample has scores (B, K). One label a place has them as torch's losses take them, (B, K, H, W) for
    targets (B, H, W); texts have the classes last, (B, T, K) for targets (B, T).

    Parameters
    ----------
    scores
        Shape of a batch of outputs.
    target
        Shape of the batch of whole-number targets, where it is known; it decides.
    classes
        Number of classes, which decides where there is no target. 0 is none: outputs are numbers, not scores.
    tokens
        Whether the samples are texts: what is decisive where both axes suit.
    """
    scores, last = tuple(scores), len(scores) - 1
    if last < 1:
        return None
    order = (1,) if last == 1 else (last, 1) if tokens else (1, last)
    if target is not None:
        suited = [axis for axis in order if scores[:axis] + scores[axis + 1 :] == target]
    else:
        suited = [axis for axis in order if scores[axis] == classes]
        if not suited and classes:  # a model may tell more classes apart than its data have
            suited = [axis for axis in order if scores[axis] > classes]
    return next((axis for axis in suited if scores[axis] > 1), None)


def matches(output: Tensor, target: Tensor, *, tokens: bool = False) -> Tensor | None:
    """
    Which answers are right, in the target's shape: the class of the highest score; None where that has no meaning.

    A single score is right or wrong only by a threshold, which we don't know.
    """
    if not hasattr(output, "argmax") or target.is_floating_point():
        return None
    axis = class_axis(output.shape, target.shape, tokens=tokens)
    return None if axis is None else output.argmax(axis) == target


def right_answers(output: Tensor, target: Tensor, *, tokens: bool = False) -> Tensor | None:
    """
    Number of right answers: scores (B, K) against class numbers (B,); None where that has no meaning.

    Where a sample has many labels, as the tokens (B, T) of a text or the pixels (B, H, W) of a picture, it is the sum
    over samples of the fraction of right ones in each.
    """
    right = matches(output, target, tokens=tokens)
    if right is None or target.dim() == 1:
        return right if right is None else right.sum()
    return right.flatten(1).float().mean(1).sum()


def named(scores: np.ndarray, labels: list[str], shape: Sequence[int], *, tokens: bool = False) -> Any:
    """
    The label of the highest score: a list of them, nested where a sample has one a place; of one sample alone, its own.

    `scores` are (B, K), or (B, K, H, W) or (B, T, K), without B for one sample, of which `shape` is that of its scores;
    `labels` name the classes (K,); `tokens` says whether samples are texts.
    """
    import numpy as np

    axis = class_axis((1, *shape), classes=len(labels), tokens=tokens)
    axis = len(shape) if axis is None else axis
    names = np.asarray(labels, dtype=object)[scores.argmax(axis - (scores.ndim == len(shape)))]
    return names.tolist() if isinstance(names, np.ndarray) else names


def labels(y: Tensor) -> Tensor:
    """Targets as losses want them: whole numbers as int64 (B,), others as float32."""
    if y.is_floating_point():
        return y.float()
    return y.long().squeeze(1) if y.dim() == 2 and y.shape[1] == 1 else y.long()
