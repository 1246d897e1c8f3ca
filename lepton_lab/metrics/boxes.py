"""
How well boxes are found: the mean average precision of COCO.

Outputs are a list of dicts, one an image, as torchvision's detectors give them: `boxes` (N, 4) as x1, y1, x2, y2,
`scores` (N,) and `labels` (N,); targets are such dicts without scores.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ..boxes import overlap
from .base import Metric

if TYPE_CHECKING:
    from torch import Tensor

OVERLAPS = [0.5 + 0.05 * i for i in range(10)]
"""What part of their union two boxes must share to match."""
MOST = 100  # boxes of an image and class that count: those of the highest scores
RECALLS = 101  # places from 0 to 1 at which a precision is taken


class MeanAveragePrecision(Metric):
    """The average precision of boxes, the mean over classes and overlaps of 0.5 to 0.95 in steps of 0.05 (COCO)."""

    title = "mAP"
    short = "mAP"
    axis = "mean average precision, overlap 0.5 to 0.95"
    form = ".4f"
    highest = 1.0
    gathers = alone = True
    kinds = ("boxes",)
    overlaps = OVERLAPS

    def update(self, output: Any, target: Any) -> list[Tensor] | None:
        """Of each image a row (label, score, whether it matches at each overlap) a box; of a truth, without a score."""
        if not (isinstance(output, (list, tuple)) and all(isinstance(one, dict) for one in (*output, *target))):
            return None
        return [self._image(*pair) for pair in zip(output, target, strict=True)]

    def _image(self, predicted: dict[str, Tensor], truth: dict[str, Tensor]) -> Tensor:
        import torch

        boxes, scores, labels = (predicted[name].detach().cpu().double() for name in ("boxes", "scores", "labels"))
        truths, classes = (truth[name].detach().cpu().double() for name in ("boxes", "labels"))
        rows = [torch.full((len(classes), 2 + len(self.overlaps)), math.nan, dtype=torch.double)]
        rows[0][:, 0] = classes
        for label in labels.unique().tolist():
            mine = (labels == label).nonzero()[:, 0]
            mine = mine[scores[mine].argsort(descending=True, stable=True)][:MOST]
            hits = self._matches(overlap(boxes[mine, None], truths[None, classes == label]))
            rows.append(torch.cat([labels[mine, None], scores[mine, None], hits], 1))
        return torch.cat(rows)

    def _matches(self, shared: Tensor) -> Tensor:
        """Which boxes (N,) of one class match a truth (M,) that none before took, at each overlap: (N, O) of 0 or 1."""
        import torch

        hits = torch.zeros(len(shared), len(self.overlaps), dtype=torch.double)
        for column, least in enumerate(self.overlaps):
            free = shared.clone()
            for i in range(len(shared) if shared.shape[1] else 0):
                best = len(free[i]) - 1 - int(free[i].flip(0).argmax())  # the last of equals, as COCO's
                if free[i, best] >= least:
                    hits[i, column] = 1
                    free[:, best] = -1
        return hits

    def finish(self, sums: Tensor) -> float:
        """The mean over the classes that there are, and over overlaps; NaN where there is no truth."""
        truths = sums[:, 1].isnan()
        means = [
            self._average(sums[~truths & (sums[:, 0] == label)], int((truths & (sums[:, 0] == label)).sum()))
            for label in sums[truths, 0].unique()
        ]
        return sum(means) / len(means) if means else math.nan

    def _average(self, rows: Tensor, truths: int) -> float:
        """The precision at each recall, of one class: the highest at it or beyond; 0 where it is not reached."""
        import torch

        hits = rows[rows[:, 1].argsort(descending=True, stable=True), 2:].cumsum(0)
        precision = hits / torch.arange(1, len(hits) + 1)[:, None]
        highest = precision.flip(0).cummax(0).values.flip(0) if len(hits) else precision
        highest = torch.cat([highest, highest.new_zeros(1, highest.shape[1])])
        places = (torch.arange(RECALLS, dtype=torch.double) * 0.01).expand(hits.shape[1], -1).contiguous()
        at = torch.searchsorted((hits / truths).T.contiguous(), places)
        return float(highest.T.gather(1, at).mean())


class MeanAveragePrecision50(MeanAveragePrecision):
    """The average precision of boxes that share half of their union with the right one, the mean over classes."""

    telling = ("boxes",)
    title = "mAP at 0.5"
    short = "mAP50"
    axis = "mean average precision, overlap 0.5"
    overlaps = OVERLAPS[:1]
