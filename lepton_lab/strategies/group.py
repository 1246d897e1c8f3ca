"""Ranks that talk through a torch process group: in step, or each at its own pace within a bound."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from .. import operations
from ..spec import Spec
from .base import Single, Step
from .work import AROUND, Cost, Workload, all_reduce, around, shown

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
    from torch.distributed import ProcessGroup

    from ..batches import Batch
    from ..objectives import Objective
AHEAD = 3  # steps that a host may run ahead of its GPU


class Group(Single):
    """
    What strategies share whose ranks join one process group: gloo on CPU, nccl on GPU.

    Unless a strategy says otherwise, every rank computes a contiguous slice of each batch. The order of samples is
    that of one process, so that any number of ranks sees the same batches.
    """

    split: ClassVar[Collection[str]] = ("batch",)
    own_steps = False
    no_fp16 = ""
    """Why ranks can't have one scale of the loss, as the end of a sentence on the strategy; "" where they can."""

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        self._done: deque[torch.cuda.Event] = deque()
        self.peers: ProcessGroup | None = None
        """The ranks that compute the other parts of a batch; None where those are all others."""

    @classmethod
    def refuse(cls, spec: Spec) -> str:
        """fp16, where ranks can't have one scale of the loss; any number of them may each take a slice."""
        if cls.no_fp16 and spec.precision == "fp16" and spec.world > 1:
            return (
                f"precision='fp16' with world={spec.world}: strategy={spec.strategy!r} {cls.no_fp16}; take "
                "precision='bf16', or strategy='ddp'"
            )
        return ""

    def start(self, rank: int, world: int, rendezvous: Path | None, device: torch.device) -> torch.device:
        """Join the process group of all ranks; nothing to join for one."""
        import torch.distributed as dist

        super().start(rank, world, rendezvous, device)
        if "batch" in self.split:
            self.part, self.parts = rank, world
        self.alone = world == 1
        if world > 1:
            if device.type == "cuda":
                self.lead += AHEAD
            operations.record()
            dist.init_process_group(
                "nccl" if device.type == "cuda" else "gloo",
                # A file where it can be: no port to collide on.
                **({"store": dist.FileStore(str(rendezvous), world)} if rendezvous else {"init_method": "env://"}),
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

    def step(self, batches: Iterable[Batch], count: int, loss: Objective, clip: float) -> Step:
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
        """As if ranks averaged their gradients; a strategy that sends something else overrides it."""
        if (n := self.spec.world) == 1:
            return super().cost(work)
        why = f"taken to average the gradients ({shown(work.gradients)}) of {n} ranks that hold all"
        replica = work.replica(n, why, all_reduce(work.gradients, n))
        return dataclasses.replace(replica, hops=around(n, AROUND))

    def total(self, values: Tensor) -> Tensor:
        """Sum over the ranks of a data-parallel group."""
        if self.parts > 1:
            import torch.distributed as dist

            dist.all_reduce(values, group=self.peers)
        return values

    def barrier(self) -> None:
        """Wait until all ranks are here."""
        if self.world > 1:
            import torch
            import torch.distributed as dist

            # Read on the host, so that a GPU's host waits too.
            dist.all_reduce(one := torch.ones(1, device=self.device))
            one.item()

    def agreed(self, value: float) -> float:
        """Rank 0's value on every rank, by which all of them decide alike."""
        if self.world == 1:
            return value
        import torch

        equalize(shared := torch.tensor([value], dtype=torch.float64, device=self.device))
        return shared.item()

    @contextlib.contextmanager
    def aligned(self) -> Iterator[nn.Module]:
        """The model, with the buffers (batch norm's) of rank 0 on every rank."""
        if self.world > 1:
            for buffer in self.module.buffers():
                equalize(buffer)
        yield self.called


def apart(spec: Spec) -> str:
    """Why there is no average of weights that are each rank's own; "" where none is asked for."""
    if not spec.ema or spec.world == 1:
        return ""
    return (
        f"ema={spec.ema:g}: averages the weights after each step, and under strategy={spec.strategy!r} ranks don't "
        "have the same; take ema=0, or strategy='ddp'"
    )


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
        # Rank 0 announces before it starts step s. By then another rank can have started step s + staleness, and
        # looked for commands before it; the next one it starts after rank 0 has done step s.
        self.lead = staleness + 1
        self.ages: Counter[int] = Counter()
        """Gradients by their age: updates of other ranks between the read of the parameters and the write."""

    def step(self, batches: Iterable[Batch], count: int, loss: Objective, clip: float) -> Step:
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
        histogram = {str(age): n for age, n in sorted(ages.items())}
        return {"staleness_mean": round(mean, 3), "staleness_max": max(ages), "staleness": histogram}


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

    Shapes and kinds are the same on every rank. Values may be elsewhere than on `device`, where the ranks communicate.
    """
    import torch.distributed as dist

    if not dist.is_initialized():  # one rank
        return
    for dtype in dict.fromkeys(value.dtype for value in values if value.is_floating_point() or value.is_complex()):
        alike = [value for value in values if value.dtype == dtype]
        row = flat([value.to(device) for value in alike])
        dist.all_reduce(row)
        fill(alike, row / dist.get_world_size())


def flat(tensors: list[Any]) -> Tensor:
    """All values in one new row (n,), in the widest of the tensors' types."""
    import torch

    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors])


def pieces(tensors: list[Any], row: Tensor) -> Iterator[tuple[Any, Tensor]]:
    """Each tensor with its piece of a row (n,), in its shape."""
    for tensor, part in zip(tensors, row.split([tensor.numel() for tensor in tensors]), strict=True):
        yield tensor, part.view(tensor.shape)


def fill(tensors: list[Any], row: Tensor) -> None:
    """Write a row of values (n,) into tensors."""
    for tensor, part in pieces(tensors, row):
        tensor.detach().copy_(part)
