"""What each sample of a split adds to a metric, put together over batches and ranks in the order of the samples."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import SpecError
from ..metrics.base import flat
from ..strategies.base import Single

MOST = 2**24
"""Numbers of a metric that are gathered in an evaluation, at most: 64 MB of float32, on each rank."""


class Gathering:
    """
    The rows of this rank's samples, and in the end those of all ranks.

    Where there are more than `most` numbers, every second sample is kept, or every fourth and so on, counted from the
    first of the split: so that it is the same samples whatever the ranks.

    Legend of the shape comments: B samples of a batch, R rows of W numbers, N samples of the split.

    Parameters
    ----------
    strategy
        Whose ranks these are.
    n
        Samples of the split, over all ranks.
    most
        Numbers that are kept, at most.

    Attributes
    ----------
    stride : int
        One of how many samples is kept.
    """

    def __init__(self, strategy: Single, n: int, most: int = MOST) -> None:
        self._strategy, self._n, self._most = strategy, n, most
        self.stride = 1
        self._places: list[Tensor] = []
        self._counts: list[Tensor] = []
        self._rows: list[Tensor] = []
        self._held = 0

    def add(self, places: Tensor, added: Tensor | Sequence[Tensor]) -> None:
        """Take what a batch's samples add, see `Metric.update`; none of a sample that was borrowed has a place (B,)."""
        rows, counts = flat(added)
        rows = rows.to(self._strategy.device)  # over which ranks can add: texts and boxes are counted on the CPU
        self._places.append(places)
        self._counts.append(counts[: len(places)])
        self._rows.append(rows if len(places) else rows[:0])
        self._held += self._rows[-1].numel()
        if self.stride > 1:
            self._thin()
        while self._held > self._most and self.stride < self._n:  # a single sample is never left out
            self.stride *= 2
            self._thin()

    def __bool__(self) -> bool:
        return bool(self._rows)

    def whole(self) -> Tensor:
        """
        The rows (R, W) of all ranks, in the order of samples; each rank calls this.

        Raises
        ------
        SpecError
            On every rank, if rows are not of one width, as of texts of unequal length.
        """
        widths = {rows.shape[1] for rows in self._rows}
        width = widths.pop() if len(widths) == 1 else -1
        mine = torch.tensor([1.0, width, width * width, width < 0], dtype=torch.float64, device=self._strategy.device)
        n, total, squares, mixed = self._strategy.total(mine).tolist()
        if mixed or n * squares != total * total:  # equal only if all are (Cauchy and Schwarz)
            raise SpecError("outputs are of unequal length, and only those of one shape are put together over batches")
        self._agree()
        places, counts, rows = (torch.cat(parts) for parts in (self._places, self._counts, self._rows))
        device = rows.device
        each = torch.zeros(self._n, dtype=torch.long)
        each[places] = counts
        each = self._strategy.total(each.to(device)).cpu()
        first = (each.cumsum(0) - each)[places].repeat_interleave(counts)  # of each row's sample, its first row
        within = torch.arange(len(first)) - (counts.cumsum(0) - counts).repeat_interleave(counts)
        whole = rows.new_zeros(int(each.sum()), *rows.shape[1:])
        whole[(first + within).to(device)] = rows
        return self._strategy.total(whole)

    def _agree(self) -> None:
        """Keep one of as many samples as the rank that keeps the fewest, and of fewer while there are too many."""
        device = self._rows[0].device
        strides = torch.zeros(64, dtype=torch.long, device=device)
        strides[self.stride.bit_length() - 1] = 1
        self.stride = 2 ** int(self._strategy.total(strides).nonzero().max())
        self._thin()
        while (
            self.stride < self._n and int(self._strategy.total(torch.tensor([self._held], device=device))) > self._most
        ):
            self.stride *= 2
            self._thin()

    def _thin(self) -> None:
        """Leave out the samples that are not kept."""
        for i, (places, counts, rows) in enumerate(zip(self._places, self._counts, self._rows, strict=True)):
            kept = places % self.stride == 0
            self._rows[i] = rows[kept.repeat_interleave(counts).to(rows.device)]
            self._places[i], self._counts[i] = places[kept], counts[kept]
        self._held = sum(rows.numel() for rows in self._rows)
