"""Data parallel: each rank computes its part of every batch, gradients are averaged."""

from __future__ import annotations

import contextlib
import datetime
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..spec import Spec
from .base import Single

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from .base import Batch, Loss

TIMEOUT = datetime.timedelta(minutes=5)  # a rank that the others wait for longer counts as lost
AHEAD = 3  # steps that a host may run ahead of its GPU


class DDP(Single):
    """
    Every rank holds the model and computes its slice of each batch; torch's DDP averages the gradients.

    Processes talk through gloo on CPU and nccl on GPU. With one rank it is plain training. The order of samples is
    that of one process, so that any number of ranks sees the same batches.
    """

    def __init__(self, spec: Spec, *, find_unused_parameters: bool = False) -> None:
        super().__init__(spec)
        self.find_unused_parameters = find_unused_parameters  # slower; for models that don't use all in each step
        self._done: deque[torch.cuda.Event] = deque()

    def start(self, rank: int, world: int, rendezvous: Path, device: torch.device) -> torch.device:
        """Join the process group of all ranks; nothing to join for one."""
        import torch.distributed as dist

        super().start(rank, world, rendezvous, device)
        self.parts = world
        if world > 1:
            if device.type == "cuda":
                self.lead = AHEAD + 1
            dist.init_process_group(
                "nccl" if device.type == "cuda" else "gloo",
                store=dist.FileStore(str(rendezvous), world),  # a file: no port to collide on
                rank=rank,
                world_size=world,
                timeout=TIMEOUT,
                device_id=device if device.type == "cuda" else None,
            )
        return device

    def shard(self, indices: Tensor) -> Tensor:
        """A contiguous slice, as even as can be: (B,) -> (B / world,)."""
        n = len(indices)
        return indices[self.rank * n // self.world : (self.rank + 1) * n // self.world]

    def step(self, batches: Iterable[Batch], count: int, loss: Loss, clip: float) -> tuple[Tensor, Tensor | None, int]:
        """One step, as in one process; a GPU's host waits until at most AHEAD steps are under way."""
        result = super().step(batches, count, loss, clip)
        if self.world > 1 and self.device.type == "cuda":
            import torch

            event = torch.cuda.Event()
            event.record()
            self._done.append(event)
            if len(self._done) > AHEAD:
                self._done.popleft().synchronize()  # so that a command announced `lead` steps before reaches all ranks
        return result

    def total(self, values: Tensor) -> Tensor:
        """Sum over ranks."""
        if self.world > 1:
            import torch.distributed as dist

            dist.all_reduce(values)
        return values

    def align(self) -> None:
        """Give every rank the buffers of rank 0."""
        if self.world > 1:
            import torch.distributed as dist

            for buffer in self.module.buffers():
                dist.broadcast(buffer, 0)

    def _wrap(self, model: nn.Module) -> nn.Module:
        if self.world == 1:
            return model
        from torch.nn.parallel import DistributedDataParallel

        ids = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(
            model,
            device_ids=ids,
            gradient_as_bucket_view=True,
            find_unused_parameters=self.find_unused_parameters,
        )

    def _before_last(self) -> contextlib.AbstractContextManager[Any]:
        return self.model.no_sync() if self.world > 1 else contextlib.nullcontext()
