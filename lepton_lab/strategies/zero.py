"""ZeRO, stage 1: data parallel, with the optimizer's state dealt out to the ranks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..spec import Spec
from .ddp import DDP
from .work import dealt

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

    from .work import Cost, Workload


class Zero(DDP):
    """
    As ddp, but each rank's optimizer updates, and keeps state for, its own parameters only; it then sends them to all.

    After Rajbhandari and others, ZeRO, arXiv:1910.02054, stage 1. Memory for Adam's state is divided by the number of
    ranks. With one rank it is plain training.
    """

    @classmethod
    def refuse(cls, spec: Spec) -> str:
        """What needs one decision of all ranks whether to skip a step."""
        if spec.precision == "fp16" and spec.world > 1:
            return (
                "precision='fp16': a rank of strategy='zero' sees the overflows of its own parameters only; take "
                "precision='bf16', or strategy='ddp'"
            )
        return super().refuse(spec)

    def holds(self, rank: int, world: int) -> dict[str, tuple[float, float]]:
        """A slice of the batch, and of the optimizer's state."""
        return super().holds(rank, world) | {"optimizer": (rank / world, (rank + 1) / world)}

    def setup(
        self, model: nn.Module, make_optimizer: Callable[[list[nn.Parameter]], Optimizer]
    ) -> tuple[nn.Module, Optimizer]:
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
        n, whole = self.spec.world, super().cost(work)
        names = {p: name for name, p in work.model.named_parameters()}
        hands = [[work.held[names[p]] for p in hand] for hand in deal([p for p in names if p.requires_grad], n)]
        passed = dealt([sum(p.size for p in hand) for hand in hands], n)
        return dataclasses.replace(
            whole,
            # What compression remembers stays with every rank.
            optimizer=max(sum(p.state for p in hand) for hand in hands) + whole.optimizer - work.optimizer,
            sent=whole.sent + passed,
            why=f"{whole.why}; each keeps the optimizer's state of 1/{n} of the parameters, and sends these to all",
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
        start = 0
        for p in alike:
            view = flat.as_strided(p.shape, p.stride(), start)  # as it lay: a kernel may be channels_last
            p.data = view.copy_(p.data)
            start += p.numel()
        flats.append(flat)
    return flats
