"""ZeRO, stage 1: data parallel, with the optimizer's state dealt out to the ranks."""

from __future__ import annotations

import dataclasses
from itertools import accumulate
from typing import TYPE_CHECKING

from .base import MakeOptimizer
from .ddp import DDP
from .work import Cost, Workload, around, dealt

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer


class Zero(DDP):
    """
    As ddp, but each rank's optimizer updates, and keeps state for, its own parameters only; it then sends them to all.

    After Rajbhandari and others, ZeRO, arXiv:1910.02054, stage 1. Memory for Adam's state is divided by the number of
    ranks. With one rank it is plain training.
    """

    split = ("batch", "optimizer")
    no_fp16 = "shows a rank the overflows of its own parameters only"

    def setup(self, model: nn.Module, make_optimizer: MakeOptimizer) -> tuple[nn.Module, Optimizer]:
        """As under ddp; then the optimizer forgets what others update."""
        super().setup(model, make_optimizer)
        self.hands = deal(self.parameters, self.world)
        mine = set(self.hands[self.rank])
        for group in self.optimizer.param_groups:
            group["params"] = [p for p in group["params"] if p in mine]
        for parameter in set(self.optimizer.state) - mine:
            del self.optimizer.state[parameter]  # Adagrad's is there from the start
        self.flat = [join(hand) for hand in self.hands] if self.world > 1 else []
        return self.model, self.optimizer

    def cost(self, work: Workload) -> Cost:
        """As ddp's, but for the optimizer's state; then each rank sends what it updated to all."""
        n, replica = self.spec.world, super().cost(work)
        names = {p: name for name, p in work.model.named_parameters()}
        hands = [[work.held[names[p]] for p in hand] for hand in deal([p for p in names if p.requires_grad], n)]
        sent = dealt([sum(p.size for p in hand) for hand in hands], n)
        return dataclasses.replace(
            replica,
            # What compression remembers stays with every rank.
            optimizer=max(sum(p.state for p in hand) for hand in hands) + replica.optimizer - work.optimizer,
            sent=replica.sent + sent,
            hops=replica.hops + around(n, 1),
            why=f"{replica.why}; each keeps the optimizer's state of 1/{n} of the parameters, and sends these to all",
        )

    def _update(self, clip: float) -> None:
        super()._update(clip)
        import torch.distributed as dist

        sent = [dist.broadcast(t, owner, async_op=True) for owner, flat in enumerate(self.flat) for t in flat]
        for work in sent:
            work.wait()


def deal(parameters: list[nn.Parameter], world: int) -> list[list[nn.Parameter]]:
    """Each rank's parameters: the largest first, each to the rank that has least so far."""
    hands: list[list[nn.Parameter]] = [[] for _ in range(world)]
    sizes = [0] * world
    for parameter in sorted(parameters, key=lambda p: -p.numel()):
        least = sizes.index(min(sizes))
        hands[least].append(parameter)
        sizes[least] += parameter.numel()
    return hands


def join(parameters: list[nn.Parameter]) -> list[Tensor]:
    """Lay parameters end to end, so that all go in one message for each type; they become views of what is returned."""
    import torch

    flats = []
    for dtype in dict.fromkeys(p.dtype for p in parameters):
        alike = [p for p in parameters if p.dtype == dtype]
        flat = torch.empty(sum(p.numel() for p in alike), dtype=dtype, device=alike[0].device)
        for p, start in zip(alike, accumulate((p.numel() for p in alike), initial=0), strict=False):
            view = flat.as_strided(p.shape, p.stride(), start)  # as it lay: a kernel may be channels_last
            p.data = view.copy_(p.data)
        flats.append(flat)
    return flats
