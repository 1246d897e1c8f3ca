"""The moving average of a model's weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn


class Average:
    """
    The exponential moving average of a module's weights, split between ranks as these are.

    After step t it is the mean of the weights after each step i up to then, weighted by decay^(t - i): normalised as
    Adam's moments are (Kingma and Ba, arXiv:1412.6980, section 3), so that it begins with the first step's weights and
    not with those before it. Running statistics in floats, such as batch norm's `running_mean`, are averaged alike.
    What is not trained, and other buffers, are the module's own: spectral norm's vectors belong to the newest weights,
    and their mean is no longer of length 1.

    Parameters
    ----------
    module
        As the strategy set it up; its parameters stay the same objects.
    decay
        A step, above 0 and below 1.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module, self.decay = module, decay
        self._parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
        self._lasting = set(module.state_dict())
        self.values = {name: value.detach().clone() for name, value in self._own().items()}
        """By the names of the module; a checkpoint is read into them."""

    def update(self, step: int) -> None:
        """Take in the weights after a step, counted from 1."""
        weight = (1 - self.decay) / (1 - self.decay**step)
        torch._foreach_lerp_(_plain(self.values), _plain(self._own()), weight)

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """With the average in the module, which then has its own weights again; each rank does so with its part."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for own, other in zip(_plain(self._own()), _plain(self.values), strict=True):
            before = own.clone()
            own.copy_(other)
            other.copy_(before)

    def _own(self) -> dict[str, Any]:
        """What is averaged, as the module has it; a forward pass may put a new tensor in a buffer's place."""
        return self._parameters | {
            name: buffer
            for name, buffer in self.module.named_buffers()
            if name in self._lasting and name.rpartition(".")[2].startswith("running_") and buffer.is_floating_point()
        }


def _plain(values: dict[str, Any]) -> list[Tensor]:
    """What this rank holds of each."""
    return [value.detach().to_local() if hasattr(value, "to_local") else value.detach() for value in values.values()]
