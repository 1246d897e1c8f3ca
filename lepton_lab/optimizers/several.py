"""Several optimizers as one, for a model whose parameters belong to several players."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.optim import Optimizer


class Several:
    """
    Optimizers of separate parameters as one: what is asked of an Optimizer elsewhere, it answers for all of them.

    An optimizer passes over parameters without a gradient, so `step` updates those that took part in the last backward
    pass. All have one dict of states, and the groups are those of the parts themselves.
    """

    def __init__(self, parts: Sequence[Optimizer]) -> None:
        self.parts = parts
        self.param_groups = [group for part in parts for group in part.param_groups]
        states = [item for part in parts for item in part.state.items()]  # Adagrad's is there from the start
        self.state = defaultdict(dict, states)

    @property
    def state(self) -> Any:
        """States by parameter."""
        return self.parts[0].state

    @state.setter
    def state(self, states: Any) -> None:
        for part in self.parts:
            part.state = states

    def step(self, closure: Callable[[], Any] | None = None) -> None:
        """Update each parameter that has a gradient."""
        for part in self.parts:
            part.step(closure)
