"""Local SGD: ranks train apart, and meet every so many steps to average their weights."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from ..spec import Spec
from .base import MakeOptimizer
from .group import Group, apart, average
from .work import AROUND, Cost, Workload, all_reduce, around, shown

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer


class LocalSGD(Group):
    """
    Each rank trains a copy of its own on its slice of each batch; every `every` steps they average their weights.

    After Stich, Local SGD Converges Fast and Communicates Little, arXiv:1805.09767. A rank's loss is weighed by its
    share of the step's samples, so the plain mean of the weights weighs every sample alike in short last batches too:
    with SGD and every=1 it is the step of one process. Optimizer state, clipping and the scale of fp16 are each rank's
    own. Evaluations and checkpoints see the mean of the ranks as it is then. A command takes effect `every` steps after
    it is seen.

    Parameters
    ----------
    every
        Optimizer steps between two averages, at least 1.
    """

    exact = False

    def __init__(self, spec: Spec, *, every: Annotated[int, Field(ge=1)] = 8) -> None:
        super().__init__(spec)
        self.every = every
        # Before it announces at step s, rank 0 has not entered the first average at or after it, whose step is
        # s + every - 1 at most: no other rank gets beyond that step without it.
        self.lead = every

    @classmethod
    def refuse(cls, spec: Spec) -> str:
        """An average of weights that ranks don't share."""
        return apart(spec) or super().refuse(spec)

    def setup(self, model: nn.Module, make_optimizer: MakeOptimizer) -> tuple[nn.Module, Optimizer]:
        """As one process; ranks begin together."""
        self.apart = 0
        """Steps since the last average, the same on every rank."""
        return super().setup(model, make_optimizer)

    def cost(self, work: Workload) -> Cost:
        """A mean over the ranks every so many steps, as a mean over the steps."""
        n, size = self.spec.world, work.parameters
        why = f"each rank trains a copy on its 1/{n} of the batch; every {self.every} steps {shown(size)} are averaged"
        replica = work.replica(n, why, all_reduce(size, n) / self.every)
        return dataclasses.replace(replica, hops=around(n, AROUND) / self.every, apart=self.every)

    def state_dict(self) -> dict[str, dict[str, Any]]:
        """The mean over ranks of weights, buffers and optimizer state, which any strategy can go on with."""
        state = super().state_dict()
        state = {part: {name: value.clone() for name, value in tensors.items()} for part, tensors in state.items()}
        complete = self._held()
        optimizer = [value for name, value in state["optimizer"].items() if name.rpartition(".")[0] in complete]
        average([*state["model"].values(), *optimizer], self.device)
        return state

    def local_state(self) -> dict[str, Any]:
        """This rank's own weights, buffers and optimizer state, and how long it has been apart."""
        return {**super().local_state(), **super().state_dict(), "apart": self.apart}

    def load_local_state(self, state: dict[str, Any]) -> None:
        """Go on apart, as if never interrupted."""
        super().load_local_state(state)
        self.apart = state["apart"]
        self.module.load_state_dict(state["model"])
        names: dict[Any, str] = {parameter: name for name, parameter in self.module.named_parameters()}
        for parameter in list(self.optimizer.state):
            # In place, where the mean was just read to; a parameter that only others have stepped has none here.
            for key, value in self.optimizer.state[parameter].items():
                if (own := state["optimizer"].get(f"{names[parameter]}.{key}")) is None:
                    del self.optimizer.state[parameter]
                    break
                value.copy_(own)

    @contextlib.contextmanager
    def aligned(self) -> Iterator[nn.Module]:
        """The mean of the ranks' models, for as long as it is evaluated."""
        own = [value.clone() for value in self._shared()]
        average(self._shared(), self.device)
        with super().aligned() as model:
            yield model
        for value, before in zip(self._shared(), own, strict=True):
            value.copy_(before)

    def _update(self, clip: float) -> None:
        super()._update(clip)
        self.apart += 1
        if self.apart >= self.every:
            self._meet()
            self.apart = 0

    def _meet(self) -> None:
        """All ranks go on from the mean of their weights and buffers."""
        average(self._shared(), self.device)

    def _held(self) -> set[str]:
        """Names of the parameters of which every rank holds optimizer state: all have had a gradient for them."""
        import torch

        held = torch.tensor([float(p in self.optimizer.state) for p in self.parameters], device=self.device)
        names: dict[Any, str] = {parameter: name for name, parameter in self.module.named_parameters()}
        counts = self.total(held).tolist()
        return {names[p] for p, count in zip(self.parameters, counts, strict=True) if count == self.world}

    def _shared(self) -> list[Tensor]:
        """Weights and buffers (batch norm's), which are to be the same on every rank."""
        return [p.data for p in self.parameters] + list(self.module.buffers())
