"""Ranks that each go at their own pace, within a bound on how far apart they may be."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..spec import Spec
from .base import Step
from .group import Group

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from ..losses import Batch, Loss


class Asynchronous(Group):
    """
    What strategies share whose ranks don't wait for each other's gradients: stale synchronous parallel.

    A rank may be at most `staleness` steps ahead of the slowest (Ho and others, NIPS 2013). So a gradient is out of
    date by at most (world - 1) * (2 * staleness + 1) updates: while a rank is in its step c, each other one can go
    from step c - staleness to step c + staleness + 1. Each gradient is an update of its own, from batch_size / world
    samples, so that an epoch makes `world` times as many updates as one process would.
    """

    exact = False
    trains_any_module = False

    def __init__(self, spec: Spec, staleness: int) -> None:
        super().__init__(spec)
        self.staleness = staleness
        self.ages: Counter[int] = Counter()
        """Gradients by their age: updates of other ranks between the read of the parameters and the write."""

    def start(self, rank: int, world: int, rendezvous: Path, device: torch.device) -> torch.device:
        """Join the process group; commands are announced as many steps ahead as ranks can be apart."""
        device = super().start(rank, world, rendezvous, device)
        # Rank 0 announces before it starts step s. By then another rank can have started step s + staleness, and
        # looked for commands before it; the next one it starts after rank 0 has done step s.
        self.lead = self.staleness + 1
        return device

    def step(self, batches: Iterable[Batch], count: int, loss: Loss, clip: float) -> Step:
        """One step at this rank's own pace; before the first, all wait until each has what it goes on from."""
        if self._first and self.world > 1:
            self.barrier()
            self._begin()
        return super().step(batches, count, loss, clip)

    def step_total(self, values: Tensor) -> Tensor:
        """The values of this rank, whose gradient is an update of its own."""
        return super().step_total(values) if self.exact else values

    def _begin(self) -> None:
        """Before the first step, when every rank has its parameters."""

    @contextlib.contextmanager
    def aligned(self) -> Iterator[nn.Module]:
        """The model after the updates of all ranks, with rank 0's buffers."""
        self.barrier()
        with super().aligned() as module:
            yield module

    def report(self) -> dict[str, Any]:
        """How old gradients were, in updates: mean, maximum and histogram."""
        ages = dict(self.ages)  # a copy in one go: another thread counts
        if not ages:
            return {}
        mean = sum(age * n for age, n in ages.items()) / sum(ages.values())
        histogram = {str(age): ages[age] for age in sorted(ages)}
        return {"staleness_mean": round(mean, 3), "staleness_max": max(ages), "staleness": histogram}
