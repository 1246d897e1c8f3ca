"""DiLoCo: ranks train apart, and an outer optimizer takes up what they have learnt since they last met."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from ..spec import Spec
from .base import MakeOptimizer
from .local_sgd import LocalSGD
from .work import Cost, Workload

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer


class DiLoCo(LocalSGD):
    """
    As local_sgd, but where ranks meet, an outer optimizer with Nesterov's momentum steps along what they moved by.

    d = w - mean of the ranks' weights; b = outer_momentum * b + d; w -= outer_lr * (d + outer_momentum * b), with w the
    weights after the last meeting (Douillard and others, DiLoCo, arXiv:2311.08105, which takes AdamW within and meets
    every 500 steps). outer_lr=1 and outer_momentum=0 make it local_sgd. One rank steps along its own moves.

    Parameters
    ----------
    every
        Optimizer steps between two meetings, at least 1.
    outer_lr
        Learning rate of the outer optimizer, above 0.
    outer_momentum
        Momentum of the outer optimizer, from 0 to below 1.
    """

    def __init__(
        self,
        spec: Spec,
        *,
        every: Annotated[int, Field(ge=1)] = 16,
        outer_lr: Annotated[float, Field(gt=0)] = 0.7,
        outer_momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9,
    ) -> None:
        super().__init__(spec, every=every)
        self.outer_lr, self.outer_momentum = outer_lr, outer_momentum

    def setup(self, model: nn.Module, make_optimizer: MakeOptimizer) -> tuple[nn.Module, Optimizer]:
        """As local_sgd; the outer optimizer starts anew."""
        self.outer: list[Tensor] = []
        """Weights after the last meeting."""
        self.momentum: list[Tensor] = []
        return super().setup(model, make_optimizer)

    def cost(self, work: Workload) -> Cost:
        """As local_sgd's, with the outer optimizer's state: weights of the last meeting, and momentum."""
        inner = super().cost(work)
        why = f"{inner.why}, and an outer optimizer keeps them and a momentum"
        return dataclasses.replace(inner, optimizer=inner.optimizer + 2 * work.gradients, why=why)

    def local_state(self) -> dict[str, Any]:
        """The outer optimizer's state too."""
        return {**super().local_state(), "met": self.outer, "momentum": self.momentum}

    def load_local_state(self, state: dict[str, Any]) -> None:
        """Go on apart, as if never interrupted."""
        super().load_local_state(state)
        self.outer = [value.to(self.device) for value in state["met"]]
        self.momentum = [value.to(self.device) for value in state["momentum"]]

    def _update(self, clip: float) -> None:
        if not self.outer:  # the start, or a run of another strategy or world that goes on here
            self.outer = [p.detach().clone() for p in self.parameters]
            self.momentum = [value.new_zeros(value.shape) for value in self.outer]
        super()._update(clip)

    def _meet(self) -> None:
        super()._meet()
        for parameter, outer, momentum in zip(self.parameters, self.outer, self.momentum, strict=True):
            gradient = outer - parameter.data
            momentum.mul_(self.outer_momentum).add_(gradient)
            outer.sub_(gradient.add_(momentum, alpha=self.outer_momentum), alpha=self.outer_lr)
            parameter.data.copy_(outer)
