"""Hybrid: the model is split within groups of ranks, and replicated between them."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

from pydantic import Field

from ..spec import Spec
from .base import piece
from .fsdp import FSDP, units
from .work import AROUND, Cost, Workload, all_reduce, around, shown


class Hybrid(FSDP):
    """
    Ranks form a mesh of replicate x shard: each group of `shard` ranks splits the model as fsdp does.

    Parameters are gathered within a group only (the ranks of one machine, say); between groups gradients are averaged.
    The other options are those of fsdp.

    Parameters
    ----------
    shard
        Ranks of a group, a divisor of the world; 0 takes the largest proper one: 2 x 2 for 4 ranks, 2 x 4 for 8.
    """

    def __init__(
        self,
        spec: Spec,
        *,
        shard: Annotated[int, Field(ge=0)] = 0,
        gather: Literal["fp32", "bf16"] = "fp32",
        reshard_after_forward: bool = True,
    ) -> None:
        super().__init__(spec, gather=gather, reshard_after_forward=reshard_after_forward)
        size = shard or usual(spec.world) or 1  # of a world that is refused, too
        self.mesh = {"replicate": spec.world // size, "shard": size}

    @classmethod
    def refuse(cls, spec: Spec) -> str:
        """What fsdp refuses, and a world that groups of ranks don't fill."""
        world, shard = spec.world, spec.options.get("shard", 0)
        divisors = [size for size in range(1, world + 1) if world % size == 0]
        if shard and shard not in divisors:
            return (
                f"options={{'shard': {shard}}}: ranks of a group, whose groups must fill world={world}; take one of "
                f"{', '.join(map(str, divisors))}, or 0 for the usual"
            )
        if not shard and not usual(world):
            return (
                f"world={world}: has no mesh of replicate x shard with two or more ranks each way; take "
                f"world={world + 1}, or strategy='fsdp'"
            )
        return super().refuse(spec)

    def holds(self, rank: int, world: int) -> dict[str, tuple[float, float]]:
        """A slice of the batch; of the model, a slice of what its group shares."""
        held, size = super().holds(rank, world), self.mesh["shard"]
        return dict.fromkeys(held, piece(rank % size, size)) | {"batch": held["batch"]}

    def cost(self, work: Workload) -> Cost:
        """As fsdp's within a group; then each part's gradients are averaged between the groups."""
        cost, groups = super().cost(work), self.mesh["replicate"]
        if groups == 1:
            return cost
        count = len(units(work.model)) + 1
        sent = all_reduce(cost.gradients, groups) + (count - 1) * all_reduce(0, groups)
        why = f"{cost.why}; {groups} groups average their parts' gradients ({shown(cost.gradients)})"
        hops = cost.hops + around(groups, AROUND * count)
        return dataclasses.replace(cost, sent=cost.sent + sent, why=why, hops=hops)


def usual(world: int) -> int:
    """Ranks of a group: the largest proper divisor of the world, all of one or two; 0 where a world has none."""
    if world <= 2:
        return world
    return max((size for size in range(2, world) if world % size == 0), default=0)
