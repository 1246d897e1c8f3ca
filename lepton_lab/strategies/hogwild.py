"""Hogwild: every rank writes into the same parameters, without a lock."""

from __future__ import annotations

import dataclasses
import math
import os
import time
from collections.abc import Iterable
from itertools import accumulate
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from ..spec import Spec
from .base import Step
from .group import Asynchronous, apart
from .work import Cost, Workload, shown

if TYPE_CHECKING:
    from torch import UntypedStorage, nn

    from ..batches import Batch
    from ..objectives import Objective
LINE = 64  # bytes of a cache line: no two tensors share one
POLL = 0.0005  # seconds between looks at the slowest rank


class Hogwild(Asynchronous):
    """
    All ranks update one model in shared memory, each when it likes and without a lock (CPU only).

    Niu and others, NIPS 2011: a rank may read while another writes, and one of two writes at once may be lost; where
    gradients are small or sparse that does no harm. Each rank has an optimizer state of its own: any optimizer then
    works as it is, and no moment is read half written; checkpoints keep rank 0's, which a resume gives to all. `clip`
    bounds each rank's own gradient. Buffers (batch norm's) are each rank's own too, and rank 0's count in evaluations.

    Parameters
    ----------
    staleness
        Steps that a rank may be ahead of the slowest, for commands and the ends of epochs; 0 or more.
    """

    spreads = False
    gpus = False

    def __init__(self, spec: Spec, *, staleness: Annotated[int, Field(ge=0)] = 8) -> None:
        super().__init__(spec, staleness)

    @classmethod
    def refuse(cls, spec: Spec) -> str:
        """GPUs, whose memory no other process writes to; and an average of weights that change at any time."""
        if spec.device == "cuda":
            return (
                "device='cuda': strategy='hogwild' updates memory that CPU processes share; take device='cpu', or "
                "strategy='parameter_server' with options={'staleness': 4}"
            )
        return apart(spec) or super().refuse(spec)

    def step(self, batches: Iterable[Batch], count: int, loss: Objective, clip: float) -> Step:
        """One step from whatever the parameters are while it reads them."""
        self._read = self._others()
        return super().step(batches, count, loss, clip)

    def _wrap(self, model: nn.Module) -> nn.Module:
        """The model, its parameters moved into shared memory; each rank's count of its updates lies behind them."""
        import torch

        trained = [p for p in model.parameters() if p.requires_grad]
        sizes = [math.ceil(p.numel() * p.element_size() / LINE) * LINE for p in trained]
        *places, size = accumulate(sizes, initial=0)
        memory = self._map(size + LINE * self.world)
        for p, place in zip(trained, places, strict=True):
            room = torch.empty(0, dtype=p.dtype).set_(memory, place // p.element_size(), p.shape, p.stride())
            if self.rank == 0:
                room.copy_(p.detach())
            p.data = room
        counts = torch.empty(0, dtype=torch.int64).set_(memory, size // 8, (self.world,), (LINE // 8,))
        self.counts = counts.numpy()
        return model

    def cost(self, work: Workload) -> Cost:
        """One model in memory that all share, so nothing is sent."""
        n = self.spec.world
        shared = shown(work.parameters)
        why = f"{n} ranks write into the same parameters ({shared}, counted for each); none are sent"
        return dataclasses.replace(work.replica(n, why), apart=self.staleness + 1)

    def _map(self, size: int) -> UntypedStorage:
        """
        Memory that all ranks share, zeros at first.

        It has no name that a crash could leave behind: the others find it through rank 0's open file. (What
        torch.multiprocessing sends tensors with would leave a socket in a temporary folder of a rank that is killed.)
        """
        import torch
        import torch.distributed as dist

        path = [""]
        if self.rank == 0:
            file = os.memfd_create("lepton-lab-hogwild")
            os.ftruncate(file, size)
            path = [f"/proc/{os.getpid()}/fd/{file}"]
        dist.broadcast_object_list(path, 0)
        memory: Any = torch.UntypedStorage.from_file(path[0], True, size)
        self.barrier()
        if self.rank == 0:
            os.close(file)
        return memory

    def _update(self, clip: float) -> None:
        super()._update(clip)
        if self.world > 1:
            self.ages[self._others() - self._read] += 1
            self.counts[self.rank] += 1  # written by this rank alone, so that none is lost
            self._wait_for_the_slowest()

    def _others(self) -> int:
        """Updates by the other ranks so far."""
        return int(self.counts.sum() - self.counts[self.rank]) if self.world > 1 else 0

    def _wait_for_the_slowest(self) -> None:
        """Until this rank is no more than `staleness` steps ahead; the supervisor ends us if another dies meanwhile."""
        deadline = time.monotonic() + self.spec.timeout
        while (ahead := int(self.counts[self.rank] - self.counts.min())) > self.staleness:
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"Timed out waiting {self.spec.timeout:g} s for a step of rank {self.counts.argmin()}, which is "
                    f"{ahead} steps behind rank {self.rank}"
                )
            time.sleep(POLL)
