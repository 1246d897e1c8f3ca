"""Fully sharded: parameters, gradients and optimizer state are split between ranks, and gathered where needed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from ..spec import Spec
from ..tables import trait
from .shards import Gathered, as_plain, check_rows, sharded, sharing

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.distributed.device_mesh import DeviceMesh

    from .work import Cost, Workload

MANY = 2**20  # parameters from which a layer is worth a collective of its own


class FSDP(Gathered):
    """
    Every rank holds a part of each parameter; torch's FSDP2 gathers a block's parameters while it computes.

    `gather="bf16"` gathers and computes in bf16; weights stay as they are, and gradients are averaged in fp32.
    `reshard_after_forward=False` keeps blocks gathered until their backward pass: more memory, less to send. With one
    rank it is plain training.

    Parameters
    ----------
    gather
        Arithmetic in which parameters are gathered and used: "fp32" or "bf16".
    reshard_after_forward
        Give a block's parameters back until its backward pass: less memory, more to send.
    """

    def __init__(
        self, spec: Spec, *, gather: Literal["fp32", "bf16"] = "fp32", reshard_after_forward: bool = True
    ) -> None:
        super().__init__(spec)
        self.gather, self.reshard_after_forward = gather, reshard_after_forward

    @classmethod
    def refuse(cls, spec: Spec) -> str:
        """What needs whole matrices, or one decision of all ranks whether to skip a step."""
        name = spec.strategy
        if spec.world == 1:
            return ""
        if trait("optimizer", spec.optimizer, "whole_matrices"):
            return (
                f"optimizer={spec.optimizer!r}: it needs whole matrices, and strategy={name!r} gives each rank a part "
                "of them; take optimizer='adamw', or strategy='zero'"
            )
        if spec.precision == "fp16":
            return (
                f"precision='fp16': a rank of strategy={name!r} sees only its part of the gradient, thus not every "
                "overflow; take precision='bf16', or strategy='ddp'"
            )
        return ""

    def _mesh(self) -> DeviceMesh:
        from torch.distributed.device_mesh import init_device_mesh

        return init_device_mesh(self.device.type, (self.world,), mesh_dim_names=("shard",))

    def fits(self, model: nn.Module, x: Tensor) -> None:
        """Refuse a parameter that has no rows."""
        check_rows(model, self.spec.strategy)

    def holds(self, rank: int, world: int) -> dict[str, tuple[float, float]]:
        """A slice of everything."""
        return dict.fromkeys(super().holds(rank, world), (rank / world, (rank + 1) / world))

    def _place(self, model: nn.Module) -> nn.Module:
        import torch

        if self.world == 1:
            return super()._place(model)
        check_rows(model, self.spec.strategy)
        # As FSDP2 wants it: ranks get rows.
        return model.to(self.device, memory_format=torch.contiguous_format)  # type: ignore[call-overload]

    def _wrap(self, model: nn.Module) -> nn.Module:
        if self.world == 1:
            return model
        import torch
        from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

        inner, outer = MixedPrecisionPolicy(), MixedPrecisionPolicy()
        if self.gather == "bf16":
            inner = MixedPrecisionPolicy(torch.bfloat16, torch.float32)
            outer = MixedPrecisionPolicy(torch.bfloat16, torch.float32, output_dtype=torch.float32)  # for the loss
        self.mesh = self._mesh()
        for unit in units(model):
            fully_shard(unit, mesh=self.mesh, reshard_after_forward=self.reshard_after_forward, mp_policy=inner)
        fully_shard(model, mesh=self.mesh, mp_policy=outer)  # in place
        return model

    def cost(self, work: Workload) -> Cost:
        """A part of all state; a unit's parameters come for its forward, again for its backward pass, and go."""
        if self.spec.world == 1:
            return super().cost(work)
        check_rows(work.model, self.spec.strategy)
        ranks = self._sharing()
        paths = [path for path, module in work.model.named_modules() if module in set(units(work.model))]
        ratio = 0.5 if self.gather == "bf16" else 1.0
        return sharded(work, paths, ranks, self.spec.world, regather=self.reshard_after_forward, ratio=ratio)

    def _sharing(self) -> int:
        """Ranks that a parameter is split between."""
        return self.spec.world

    def _update(self, clip: float) -> None:
        with as_plain(self.optimizer) if self.world > 1 else contextlib.nullcontext():
            super()._update(clip)

    def _clip(self, clip: float) -> None:
        if self.world == 1:
            super()._clip(clip)
            return
        import torch
        import torch.distributed as dist

        shards = [p for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None]
        square = torch.nn.utils.get_total_norm([p.grad for p in shards]).square()
        dist.all_reduce(square, group=self.mesh["shard"].get_group())  # whose ranks hold the whole gradient
        torch.nn.utils.clip_grads_with_norm_(shards, clip, square.sqrt())


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
