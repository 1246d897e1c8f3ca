"""What a model says of each sample of a split in the end, kept in the run's folder."""

from __future__ import annotations

import math
import zlib
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..batches import Batch
from ..objectives import Criterion
from ..store.folder import RunFolder
from ..store.recorder import recording
from ..strategies.base import Single
from .gathering import Gathering

MOST = 2**22
"""Numbers that are kept of a split, at most: 16 MB of float32."""
WIDEST = 2**14
"""Numbers that are kept of a sample, at most; of wider ones nothing is."""


class Answers:
    """
    Scores, targets and losses of samples, gathered over ranks in the order of the split.

    Of outputs that are no tensor of one shape a sample, as of texts of unequal length, losses alone are kept.

    Legend of the shape comments: B samples of a batch, N samples kept.
    """

    def __init__(self, strategy: Single, n: int, criterion: Criterion) -> None:
        self._strategy, self._criterion, self._n = strategy, criterion, n
        self._rows, self._losses = Gathering(strategy, n, MOST), Gathering(strategy, n, MOST)
        self._shapes: tuple[Any, ...] | None = None  # of scores and targets, without B, and whether these are whole
        self._fits = self._known = True

    def add(self, places: Tensor, output: Any, batch: Batch, losses: Tensor | None) -> None:
        """Take what the model gave for a batch whose samples have these places and losses (B,) in the split."""
        if losses is None or not self._known:
            self._known = self._fits = False
            return
        self._losses.add(places, losses.float()[:, None])
        pair = self._criterion.compared(output, batch.y)
        rows = [_rows(part) for part in pair or ()]
        if not self._fits or pair is None or rows != [batch.samples] * 2:
            self._fits = False
            return
        scores, targets = pair
        shapes = tuple(scores.shape[1:]), tuple(targets.shape[1:]), not targets.is_floating_point()
        columns = [part.float().flatten(1) if part.dim() > 1 else part.float()[:, None] for part in (targets, scores)]
        row = torch.cat([losses.float()[:, None], *columns], 1)
        self._fits = self._shapes in (None, shapes) and row.shape[1] <= WIDEST
        if self._fits:
            self._shapes = shapes
            self._rows.add(places, row)

    def _agree(self) -> bool:
        """Whether all ranks have rows, and of the same shapes; each of them calls this."""
        shape = zlib.crc32(repr(self._shapes).encode()) % 2**20 if self._fits and self._shapes else -1
        mine = torch.tensor([1.0, shape, shape * shape, shape < 0], dtype=torch.float64, device=self._strategy.device)
        n, total, squares, misfits = self._strategy.total(mine).tolist()
        return not misfits and n * squares == total * total  # equal only if all are (Cauchy and Schwarz)

    def _judged(self) -> bool:
        """Whether the losses of all ranks' samples are known; each of them calls this."""
        unknown = torch.tensor([not self._known or not self._losses], dtype=torch.long, device=self._strategy.device)
        return not int(self._strategy.total(unknown))

    def save(self, folder: RunFolder, split: str) -> None:
        """Write `predictions/SPLIT.npz`; every rank calls this."""
        fits = self._agree()
        if not fits and not self._judged():
            return
        kept = self._rows if fits else self._losses
        rows = kept.whole().cpu().numpy()
        if self._strategy.rank or np.isnan(rows).all():
            return
        scored, aimed, whole = self._shapes if fits and self._shapes else ((0,), (0,), False)
        losses, targets, scores = np.split(rows, [1, 1 + math.prod(aimed)], 1)
        place = folder.path / "predictions"
        place.mkdir(exist_ok=True)
        np.savez_compressed(
            place / f"{split}.npz",
            samples=np.arange(0, self._n, kept.stride),
            losses=losses[:, 0],
            targets=targets.reshape(len(rows), *aimed).astype(np.int64 if whole else np.float32),
            scores=scores.reshape(len(rows), *scored),
        )


def losses_of(criterion: Criterion, output: Any, batch: Batch) -> Tensor | None:
    """
    The loss of each sample, (B,), or None where it is not known; what the loss logs is not counted again.

    All ranks call this for each of their batches, also for borrowed ones, since a user's loss may wait for the others.
    """
    with recording(None):
        try:
            pair = criterion.compared(output, batch.y) or (output, batch.y)
            losses = criterion.each(*pair).detach().flatten()
        except Exception:  # what it compares may be no tensor of one shape, and a view never hurts a run
            return None
    return losses if len(losses) == batch.samples else None


def _rows(part: Any) -> int:
    """Rows of a tensor, which may be of fewer or more things than samples; 0 of what is none."""
    return len(part) if isinstance(part, Tensor) and part.dim() else 0
