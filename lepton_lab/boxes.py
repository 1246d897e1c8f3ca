"""
Boxes as left, top, right and bottom, in pixels.

Legend of the shape comments: ... any axes, which are broadcast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def overlap(boxes: Tensor, others: Tensor) -> Tensor:
    """What part of their union boxes (..., 4) and others (..., 4) share: (...), from 0 to 1 (IoU)."""
    shared, union = _areas(boxes, others)
    return shared / union


def closeness(boxes: Tensor, others: Tensor) -> Tensor:
    """
    The overlap, less the part of the box around both that is in neither: (...), from -1 to 1 (GIoU).

    Unlike the overlap it has a gradient where boxes share nothing. Source: H. Rezatofighi et al., Generalized
    intersection over union, arXiv:1902.09630.
    """
    shared, union = _areas(boxes, others)
    low, high = boxes[..., :2].minimum(others[..., :2]), boxes[..., 2:].maximum(others[..., 2:])
    around = _positive((high - low).prod(-1))
    return shared / union - (around - union) / around


def _areas(boxes: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Areas that two boxes share, and have together, (...) each; the latter above 0."""
    low, high = boxes[..., :2].maximum(others[..., :2]), boxes[..., 2:].minimum(others[..., 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    one, other = ((each[..., 2:] - each[..., :2]).prod(-1) for each in (boxes, others))
    return shared, _positive(one + other - shared)


def _positive(areas: Tensor) -> Tensor:
    """Areas to divide by."""
    import torch

    return areas.clamp(min=torch.finfo(areas.dtype).tiny)
