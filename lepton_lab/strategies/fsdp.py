"""Fully sharded: parameters, gradients and optimizer state are split between ranks, and gathered where needed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from ..spec import Spec
from .base import HOLDINGS
from .shards import Gathered, check_rows, sharded, sharing
from .work import Cost, Workload

if TYPE_CHECKING:
    from torch import nn

MANY = 2**20  # parameters from which a layer is worth a collective of its own


class FSDP(Gathered):
    """
    Every rank holds a part of each parameter; torch's FSDP2 gathers a block's parameters while it computes.

    Under `gather="bf16"` weights stay as they are, and gradients are averaged in fp32. With one rank it is plain
    training.

    Parameters
    ----------
    gather
        Arithmetic in which parameters are gathered and used: "fp32" or "bf16".
    reshard_after_forward
        Give a block's parameters back until its backward pass: less memory, more to send.
    """

    split = HOLDINGS
    own_steps = True

    def __init__(
        self, spec: Spec, *, gather: Literal["fp32", "bf16"] = "fp32", reshard_after_forward: bool = True
    ) -> None:
        super().__init__(spec)
        self.gather, self.reshard_after_forward = gather, reshard_after_forward
        self.mesh = {"shard": spec.world}
        """Dimensions of the mesh of ranks; a parameter is split along "shard"."""

    def _wrap(self, model: nn.Module) -> nn.Module:
        import torch
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

        inner, outer = MixedPrecisionPolicy(), MixedPrecisionPolicy()
        if self.gather == "bf16":
            inner = MixedPrecisionPolicy(torch.bfloat16, torch.float32)
            outer = MixedPrecisionPolicy(torch.bfloat16, torch.float32, output_dtype=torch.float32)  # for the loss
        mesh = init_device_mesh(self.device.type, tuple(self.mesh.values()), mesh_dim_names=tuple(self.mesh))
        for unit in units(model):
            fully_shard(unit, mesh=mesh, reshard_after_forward=self.reshard_after_forward, mp_policy=inner)
        fully_shard(model, mesh=mesh, mp_policy=outer)  # in place
        return model

    def cost(self, work: Workload) -> Cost:
        """A part of all state; a unit's parameters come for its forward, again for its backward pass, and go."""
        if self.spec.world == 1:
            return super().cost(work)
        check_rows(work.model, self.spec.strategy)
        paths = [path for path, module in work.model.named_modules() if module in set(units(work.model))]
        ratio = 0.5 if self.gather == "bf16" else 1.0
        ranks, again = self.mesh["shard"], self.reshard_after_forward
        return sharded(work, paths, ranks, self.spec.world, regather=again, ratio=ratio)


def units(model: nn.Module) -> list[nn.Module]:
    """
    The modules that are gathered one at a time; what is in none of them is gathered with the model itself.

    These are the children of a Sequential named `blocks`; without it, all large layers of the lists and sequences that
    the model consists of, since those are called by their forward pass alone. What shares a parameter with another
    module is none: it must be there for both.
    """
    from torch import nn

    blocks = getattr(model, "blocks", None)
    modules = list(blocks) if isinstance(blocks, nn.Sequential) else list(_large_layers(model))
    shared = sharing(model)
    return [unit for unit in modules if shared.isdisjoint(unit.parameters())]


def _large_layers(model: nn.Module) -> Iterator[nn.Module]:
    from torch import nn

    containers = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
    for child in model.children():
        if isinstance(child, containers):
            yield from _large_layers(child)
        elif isinstance(model, containers) and sum(p.numel() for p in child.parameters()) >= MANY:
            yield child
