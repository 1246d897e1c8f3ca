"""Ranks that talk through a torch process group, and each compute a slice of every batch."""

from __future__ import annotations

import contextlib
import datetime
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from .. import operations
from ..spec import Spec
from .base import Single, Step
from .work import Cost, Workload, all_reduce, shown

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from ..losses import Batch, Loss
AHEAD = 3  # steps that a host may run ahead of its GPU


class Group(Single):
    """
    What strategies share whose ranks join one process group: gloo on CPU, nccl on GPU.

    Unless a strategy says otherwise, every rank computes a contiguous slice of each batch. The order of samples is
    that of one process, so that any number of ranks sees the same batches.
    """

    split: ClassVar[Collection[str]] = ("batch",)
    no_fp16 = ""
    """Why ranks can't have one scale of the loss, as the end of a sentence on the strategy; "" where they can."""

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        self._done: deque[torch.cuda.Event] = deque()

    @classmethod
    def refuse(cls, spec: Spec) -> str:
        """fp16, where ranks can't have one scale of the loss; any number of them may each take a slice."""
        if cls.no_fp16 and spec.precision == "fp16" and spec.world > 1:
            return (
                f"precision='fp16' with world={spec.world}: strategy={spec.strategy!r} {cls.no_fp16}; take "
                "precision='bf16', or strategy='ddp'"
            )
        return ""

    def start(self, rank: int, world: int, rendezvous: Path, device: torch.device) -> torch.device:
        """Join the process group of all ranks; nothing to join for one."""
        import torch.distributed as dist

        super().start(rank, world, rendezvous, device)
        if "batch" in self.split:
            self.part, self.parts = rank, world
        self.alone = world == 1
        if world > 1:
            if device.type == "cuda":
                self.lead = AHEAD + 1
            operations.record()
            dist.init_process_group(
                "nccl" if device.type == "cuda" else "gloo",
                store=dist.FileStore(str(rendezvous), world),  # a file: no port to collide on
                rank=rank,
                world_size=world,
                timeout=datetime.timedelta(seconds=self.spec.timeout),
                device_id=device if device.type == "cuda" else None,
            )
        return device

    def shard(self, indices: Tensor) -> Tensor:
        """A contiguous slice, as even as can be: (B,) -> (B / parts,)."""
        n = len(indices)
        return indices[self.part * n // self.parts : (self.part + 1) * n // self.parts]

    def step(self, batches: Iterable[Batch], count: int, loss: Loss, clip: float) -> Step:
        """One step, as in one process; a GPU's host waits until at most AHEAD steps are under way."""
        result = super().step(batches, count, loss, clip)
        self._keep_pace()
        return result

    def _keep_pace(self) -> None:
        """Wait for the GPU's work of AHEAD steps ago."""
        if self.world > 1 and self.device.type == "cuda":
            import torch

            event = torch.cuda.Event()
            event.record()
            self._done.append(event)
            if len(self._done) > AHEAD:
                self._done.popleft().synchronize()  # so that a command announced `lead` steps before reaches all ranks

    def cost(self, work: Workload) -> Cost:
        """As if ranks averaged their gradients; what a strategy sends else, it tells itself."""
        why = f"taken to average the gradients ({shown(work.gradients)}) of {self.spec.world} ranks that hold all"
        return work.replica(self.spec.world, why, all_reduce(work.gradients, self.spec.world))

    def total(self, values: Tensor) -> Tensor:
        """Sum over the ranks of a data-parallel group."""
        if self.parts > 1:
            import torch.distributed as dist

            dist.all_reduce(values)
        return values

    def barrier(self) -> None:
        """Wait until all ranks are here."""
        if self.world > 1:
            import torch
            import torch.distributed as dist

            # Read on the host, so that a GPU's host waits too.
            dist.all_reduce(one := torch.ones(1, device=self.device))
            one.item()

    @contextlib.contextmanager
    def aligned(self) -> Iterator[nn.Module]:
        """The model, with the buffers (batch norm's) of rank 0 on every rank."""
        if self.world > 1:
            for buffer in self.module.buffers():
                equalize(buffer)
        yield self.module


def equalize(tensor: Tensor) -> None:
    """Give every rank rank 0's values: as bytes, since gloo knows few types, and without gaps, which it relies on."""
    import torch
    import torch.distributed as dist

    whole = tensor.detach().contiguous()
    dist.broadcast(whole.reshape(-1).view(torch.uint8), 0)
    if not tensor.is_contiguous():
        tensor.detach().copy_(whole)


def average(values: list[Tensor], device: torch.device) -> None:
    """
    The mean over ranks, in place, of all that is not a whole number; one message for each kind of number.

    Parameters
    ----------
    values
        Of the same shapes and kinds on every rank; some may be elsewhere than on `device`.
    device
        Where the process group communicates.
    """
    import torch
    import torch.distributed as dist

    if not dist.is_initialized():  # one rank
        return
    for dtype in dict.fromkeys(value.dtype for value in values if value.is_floating_point() or value.is_complex()):
        alike = [value for value in values if value.dtype == dtype]
        flat = torch.cat([value.reshape(-1).to(device) for value in alike])
        dist.all_reduce(flat)
        flat /= dist.get_world_size()
        for value, mean in zip(alike, flat.split([value.numel() for value in alike]), strict=True):
            value.copy_(mean.view(value.shape))
