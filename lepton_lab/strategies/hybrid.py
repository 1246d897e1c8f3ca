"""Hybrid: the model is split within groups of ranks, and replicated between them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from ..spec import Spec
from .fsdp import FSDP, units
from .work import all_reduce, shown

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

    from .work import Cost, Workload


class Hybrid(FSDP):
    """
    Ranks form a mesh of replicate x shard: each group of `shard` ranks splits the model as fsdp does.

    Gradients are averaged between the groups, so that parameters are gathered from near ranks only (those of a machine,
    say). `shard=0` takes the largest proper divisor of the world: 2 x 2 for 4 ranks, 2 x 4 for 8.
    """

    def __init__(self, spec: Spec, *, shard: int = 0, gather: str = "fp32", reshard_after_forward: bool = True) -> None:
        super().__init__(spec, gather=gather, reshard_after_forward=reshard_after_forward)
        self.size = shard or usual(spec.world)

    @classmethod
    def refuse(cls, spec: Spec) -> str:
        """What fsdp refuses, and a world that groups of ranks don't fill."""
        world, shard = spec.world, spec.options.get("shard", 0)
        divisors = [d for d in range(1, world + 1) if world % d == 0]
        if shard and shard not in divisors:
            *others, last = map(str, divisors)
            return (
                f"options={{'shard': {shard}}}: groups of {shard} ranks don't fill world={world}; take "
                f"{' or '.join(filter(None, [', '.join(others), last]))}, or world={(world // max(shard, 1) + 1) * max(shard, 1)}"
            )
        if not shard and not usual(world):
            return (
                f"world={world}: makes no mesh of replicate x shard with two or more ranks each way; take "
                f"world={world + 1}, or strategy='fsdp'"
            )
        return super().refuse(spec)

    def holds(self, rank: int, world: int) -> dict[str, tuple[float, float]]:
        """A slice of the batch; of the model, a slice of what its group shares."""
        held = super().holds(rank, world)
        seat = rank % self.size
        return dict.fromkeys(held, (seat / self.size, (seat + 1) / self.size)) | {"batch": held["batch"]}

    def cost(self, work: Workload) -> Cost:
        """As fsdp's within a group; then each part's gradients are averaged between the groups."""
        cost, groups = super().cost(work), self.spec.world // self.size
        if groups == 1:
            return cost
        count = len(units(work.model)) + 1
        sent = all_reduce(cost.gradients, groups) + (count - 1) * all_reduce(0, groups)
        why = f"{cost.why}; {groups} groups average their parts' gradients ({shown(cost.gradients)})"
        return dataclasses.replace(cost, sent=cost.sent + sent, why=why)

    def _sharing(self) -> int:
        return self.size

    def _mesh(self) -> DeviceMesh:
        from torch.distributed.device_mesh import init_device_mesh

        shape = (self.world // self.size, self.size)
        return init_device_mesh(self.device.type, shape, mesh_dim_names=("replicate", "shard"))


def usual(world: int) -> int:
    """Ranks of a shard group: the largest proper divisor of the world; all of one or two; 0 where there is none."""
    if world <= 2:
        return world
    return max((d for d in range(2, world) if world % d == 0), default=0)
