"""Data parallel: each rank computes its part of every batch, gradients are averaged."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from ..spec import Spec
from .group import Group, equalize
from .work import AROUND, Cost, Workload, all_reduce, around, broadcast, shown

if TYPE_CHECKING:
    from torch import nn

    from .compression import Feedback

BUCKET = 25 * 2**20  # bytes of gradients that torch sends at once
REMEMBER = ("powersgd", "topk")  # what they leave out of a gradient they add to the next


class DDP(Group):
    """
    Every rank holds the model and computes its slice of each batch; torch's DDP averages the gradients.

    With one rank it is plain training. With `compress` it is no longer exact.

    Parameters
    ----------
    find_unused_parameters
        Look in each step for parameters that it did not use: slower, for models that don't use all.
    compress
        How gradients are sent: as they are ("none"), in 16 bits ("fp16", "bf16"), as thin matrices ("powersgd"), or the
        largest only ("topk").
    powersgd_rank
        Rank of the matrices that "powersgd" sends, at least 1.
    topk
        Fraction of the gradient that "topk" sends, above 0 to 1.
    """

    inexact_with = "compress"
    own_steps = True

    def __init__(
        self,
        spec: Spec,
        *,
        find_unused_parameters: bool = False,
        compress: Literal["none", "fp16", "bf16", "powersgd", "topk"] = "none",
        powersgd_rank: Annotated[int, Field(ge=1)] = 4,
        topk: Annotated[float, Field(gt=0, le=1)] = 0.01,
    ) -> None:
        super().__init__(spec)
        self.find_unused_parameters = find_unused_parameters
        self.compress, self.powersgd_rank, self.topk = compress, powersgd_rank, topk
        self.exact = compress == "none"
        self.feedback: Feedback | None = None

    @classmethod
    def refuse(cls, spec: Spec) -> str:
        """Compression with options that it can't go together with."""
        options = spec.options
        compress = options.get("compress", "none")
        option = f"options={{'compress': {compress!r}}}: "
        if compress in REMEMBER and spec.precision == "fp16":
            return option + (
                "adds what it left out to the next gradient, which precision='fp16' may have scaled otherwise, or made "
                "infinite; take precision='bf16', or compress 'fp16' or 'bf16'"
            )
        if compress in REMEMBER and options.get("find_unused_parameters"):
            return option + (
                "would lose what it left out where a step doesn't use a parameter; take compress 'fp16' or 'bf16' with "
                "find_unused_parameters=True"
            )
        return super().refuse(spec)

    def local_state(self) -> dict[str, Any]:
        """What compression remembers, too."""
        state = super().local_state()
        return {**state, "compression": {self.compress: self.feedback.state()}} if self.feedback else state

    def load_local_state(self, state: dict[str, Any]) -> None:
        """Go on as if never interrupted; another compression begins anew."""
        super().load_local_state(state)
        if self.feedback and self.compress in state.get("compression", {}):
            self.feedback.load_state(state["compression"][self.compress])

    def cost(self, work: Workload) -> Cost:
        """Gradients go around a ring, as they are or compressed; rank 0's buffers, if there are any, to all."""
        n, size = self.spec.world, shown(work.gradients)
        if n == 1:
            return super().cost(work)
        sent, remembered = all_reduce(work.gradients, n), 0.0
        if self.compress != "none":
            from . import compression

            sent, remembered = compression.cost(work, self.compress, n, self.powersgd_rank, self.topk)
            size += f", sent as {self.compress}"
        why = f"each rank holds all and computes 1/{n} of the batch; gradients ({size}) are averaged"
        replica = work.replica(n, why, sent + broadcast(work.buffers, n), resident=True)
        hops = around(n, AROUND * math.ceil(sent / AROUND / BUCKET))
        return dataclasses.replace(replica, optimizer=replica.optimizer + remembered, hops=hops, overlaps=True)

    def _wrap(self, model: nn.Module) -> Any:
        return Each(model, self._wrapped) if getattr(self._around, "players", None) else self._wrapped(model)

    def _wrapped(self, model: nn.Module) -> nn.Module:
        import torch
        from torch.nn.parallel import DistributedDataParallel

        from .buckets import Settled

        sent = {torch.float64, torch.float32, torch.float16, torch.bfloat16}
        sent |= {torch.int64, torch.int32, torch.int8, torch.uint8, torch.bool}
        odd = {name: buffer for name, buffer in model.named_buffers() if buffer.dtype not in sent}
        for buffer in odd.values():  # that torch's own broadcast doesn't take
            equalize(buffer)
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, list(odd))
        ids = [self.device] if self.device.type == "cuda" else None
        wrapped = (DistributedDataParallel if self.find_unused_parameters else Settled)(
            model,
            device_ids=ids,
            gradient_as_bucket_view=True,
            find_unused_parameters=self.find_unused_parameters,
        )
        if self.compress != "none":
            from .compression import HOOKS

            hook = HOOKS[self.compress](model, self.powersgd_rank, self.topk)
            self.feedback = hook if self.compress in REMEMBER else None
            # By a lambda: of a function, DDP would check name and annotations.
            wrapped.register_comm_hook(None, lambda state, bucket: hook(state, bucket))
        return wrapped

    def _before_last(self) -> contextlib.AbstractContextManager[Any]:
        return self.model.no_sync()


class Each:
    """
    Several players' step: a DDP for the parameters of each, all around the same module.

    One DDP for all would wait for the gradients of those who don't play.
    """

    def __init__(self, routine: Any, wrap: Callable[[nn.Module], nn.Module]) -> None:
        self._routine = routine
        self._wrapped: dict[str, Any] = {}
        owned = {player: routine.owned(player) for player in routine.players}
        for player in routine.players:
            others = [p for other, own in owned.items() if other != player for p in own]
            with routine.turn(player, others):
                self._wrapped[player] = wrap(routine)

    def __call__(self, batch: Any) -> Any:
        """The step of whose turn it is."""
        return self._wrapped[self._routine.player](batch)

    def no_sync(self) -> contextlib.AbstractContextManager[Any]:
        """Around a micro-batch whose gradients stay on the rank."""
        no_sync: contextlib.AbstractContextManager[Any] = self._wrapped[self._routine.player].no_sync()
        return no_sync
