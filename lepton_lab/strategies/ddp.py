"""Data parallel: each rank computes its part of every batch, gradients are averaged."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from ..spec import Spec
from .group import Group
from .work import all_reduce, broadcast, shown

if TYPE_CHECKING:
    from torch import nn

    from .work import Cost, Workload


class DDP(Group):
    """
    Every rank holds the model and computes its slice of each batch; torch's DDP averages the gradients.

    With one rank it is plain training.
    """

    def __init__(self, spec: Spec, *, find_unused_parameters: bool = False) -> None:
        super().__init__(spec)
        self.find_unused_parameters = find_unused_parameters  # slower; for models that don't use all in each step

    def cost(self, work: Workload) -> Cost:
        """Gradients go around a ring; rank 0's buffers, if there are any, to all."""
        n = self.spec.world
        sent = all_reduce(work.gradients, n) + broadcast(work.buffers, n)
        why = f"each rank holds all and computes 1/{n} of the batch; gradients ({shown(work.gradients)}) are averaged"
        return work.replica(n, why, sent, stay=n > 1)

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
