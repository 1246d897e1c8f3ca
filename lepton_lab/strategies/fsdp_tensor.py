"""Tensor parallel within groups of ranks, sharded data parallel across them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from ..spec import Spec
from .base import HOLDINGS, piece
from .shards import Gathered, check_rows, sharded, sharing
from .tensor import TensorParallel
from .work import Cost, Workload

if TYPE_CHECKING:
    import torch
    from torch import nn
    from torch.distributed.device_mesh import DeviceMesh

TENSOR = 2  # ranks of a tensor group by default


class FsdpTensor(TensorParallel, Gathered):
    """
    A mesh, data x tensor: layers are cut between the ranks of a tensor group, and each piece sharded over the groups.

    Groups of `tensor` ranks each compute a slice of every batch; parameters, gradients and optimizer state of a piece
    are spread over the ranks that have the same place in their groups (torch's FSDP2). With one rank it is plain
    training.

    Parameters
    ----------
    tensor
        Ranks of a tensor group, a divisor of the world.
    """

    split = HOLDINGS

    def __init__(self, spec: Spec, *, tensor: Annotated[int, Field(ge=1)] = TENSOR) -> None:
        super().__init__(spec)
        self.tensor = tensor if spec.world > 1 else 1

    @classmethod
    def refuse(cls, spec: Spec) -> str:
        """Why the ranks don't fill a mesh, or a model can't be cut; "" where all fits."""
        tensor, world = cls._ranks(spec), spec.world
        if world % tensor:
            below, above = world // tensor * tensor, -(-world // tensor) * tensor
            worlds = " or ".join(f"world={n}" for n in (below, above) if n)
            fits = ", ".join(str(n) for n in range(1, world + 1) if world % n == 0)
            return (
                f"world={world}: must be a multiple of options={{'tensor': {tensor}}}, the ranks of a tensor group; "
                f"take {worlds}, or one of {fits} for 'tensor'"
            )
        return super().refuse(spec)

    @classmethod
    def _ranks(cls, spec: Spec) -> int:
        return 1 if spec.world == 1 else int(spec.options.get("tensor", TENSOR))

    @classmethod
    def _named(cls, spec: Spec, ranks: int) -> str:
        return f"options={{'tensor': {ranks}}}"

    def holds(self, rank: int, world: int) -> dict[str, tuple[float, float]]:
        """A slice of the batch by its place in the data dimension, and a slice of the model by both."""
        return super().holds(rank, world) | {"batch": piece(rank // self.tensor, world // self.tensor)}

    def start(self, rank: int, world: int, rendezvous: Path | None, device: torch.device) -> torch.device:
        """Join the process group and lay out the mesh; a tensor group sees its slice of each batch."""
        device = super().start(rank, world, rendezvous, device)
        if world > 1:
            from torch.distributed.device_mesh import init_device_mesh

            shape = (world // self.tensor, self.tensor)
            self.mesh: DeviceMesh = init_device_mesh(device.type, shape, mesh_dim_names=("data", "tensor"))
            self.part, self.parts = self.mesh.get_local_rank("data"), shape[0]
            self.peers = self.mesh.get_group("data")
        return device

    def cost(self, work: Workload) -> Cost:
        """As tensor's within a group, for its slice of the batch; each piece sharded as under fsdp."""
        n = self.tensor
        if self.spec.world == 1:
            return super().cost(work)
        from . import splitting

        check_rows(work.model, self.spec.strategy)
        self._check(work.model)
        groups = self.spec.world // n
        fractions = splitting.fractions(work.model, n, False)
        names = {module: path for path, module in work.model.named_modules()}
        blocks = [names[block] for block in splitting.blocks(work.model)]
        cost = sharded(work, blocks, groups, groups, fractions=fractions)
        sent = self.spec.accumulate * splitting.sent_bytes(work, n, work.micro(groups), False)
        why = f"{groups} x {n} ranks, layers cut between {n}; of its piece {cost.why}"
        hops = cost.hops + self.spec.accumulate * splitting.hops(work.model, n, False)
        return dataclasses.replace(cost, sent=cost.sent + sent, why=why, hops=hops, overlaps=False)

    def _group(self) -> DeviceMesh:
        return self.mesh["tensor"]

    def _wrap(self, model: nn.Module) -> nn.Module:
        from torch.distributed.fsdp import fully_shard

        from . import splitting

        model.register_forward_hook(_no_view)
        shared = sharing(model)
        for block in [block for block in splitting.blocks(model) if shared.isdisjoint(block.parameters())]:
            fully_shard(block, mesh=self.mesh["data"])  # gathered one by one
        fully_shard(model, mesh=self.mesh["data"])
        return model


def _no_view(_: nn.Module, inputs: Any, output: Any) -> Any:
    """A loss that changed a view in place would make FSDP miss the start of the backward pass."""
    return output.clone() if hasattr(output, "_is_view") and output._is_view() else output
