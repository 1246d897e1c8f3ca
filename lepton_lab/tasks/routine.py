"""A task's own step: the loop's body as a user writes it, as a module that a strategy can wrap."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from ..batches import described
from ..errors import SpecError
from ..switches import switched
from .stepping import asked

if TYPE_CHECKING:
    from .base import Task


class Outcome(NamedTuple):
    """What a task's own step gives for a batch."""

    losses: tuple[Any, ...]
    """Of each player: a mean over samples, or a sum and its weight."""
    outputs: Any
    """What the model gave when it was called last; None where only parts of it were."""
    parts: dict[str, Any]
    """In an evaluation, what each player's part gave when it was called last, by its name."""


class Routine(nn.Module):
    """
    A task's own step as a module, which is called with a batch in place of the model.

    So all of the step lies between the hooks by which a strategy gathers weights and averages gradients, whatever it
    calls in between.
    """

    def __init__(self, task: Task, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.players = list(task.players)
        self.player = ""  # whose turn it is; "" of all, as in an evaluation
        self._task, self._asked = task, asked(type(task))
        self._outputs: Any = None
        module.register_forward_hook(self._note)
        self._parts: dict[str, Any] = {}
        for player in self.players:
            module.get_submodule(player).register_forward_hook(partial(self._note_part, player))

    def forward(self, batch: Any) -> Outcome:
        """The losses of who plays."""
        self._outputs, self._parts = None, {}
        turns = [self.player] if self.player or not self.players else self.players
        losses = tuple(self._loss(batch, player) for player in turns)
        outcome = Outcome(losses, self._outputs, self._parts)
        self._outputs, self._parts = None, {}
        return outcome

    def owned(self, player: str) -> list[nn.Parameter]:
        """A player's parameters, without those that are frozen."""
        return [p for p in self.module.get_submodule(player).parameters() if p.requires_grad]

    @contextmanager
    def turn(self, player: str, others: list[nn.Parameter]) -> Iterator[None]:
        """A player's turn: the `others` parameters get no gradients, though its loss may go through them."""
        self.player = player
        for parameter in others:
            parameter.requires_grad_(False)
        yield
        for parameter in others:
            parameter.requires_grad_(True)
        self.player = ""

    def _note(self, module: nn.Module, inputs: Any, outputs: Any) -> None:
        self._outputs = outputs

    def _note_part(self, player: str, module: nn.Module, inputs: Any, outputs: Any) -> None:
        if not torch.is_grad_enabled():
            self._parts[player] = outputs

    def _loss(self, batch: Any, player: str) -> Any:
        update = Update()
        offered = {"player": player, "optimizer": update}
        with update.recording():
            value = self._task.step(self.module, batch, **{name: offered[name] for name in self._asked})
        if update.loss is not None:
            value = update.loss  # what was returned, if anything, is for a loop that prints it
        if "optimizer" in self._asked and not update.stepped:
            raise SpecError(
                "step() ended without optimizer.step(): each batch is one update; for several batches an update set "
                "Spec(accumulate=...)"
            )
        return self._checked(value, f" of player {player!r}" if player else "")

    def _checked(self, value: Any, whose: str) -> Any:
        total = value[0] if isinstance(value, tuple) and len(value) == 2 else value
        if not isinstance(total, Tensor) or total.numel() != 1:
            given = "nothing" if value is None else described(value)
            raise SpecError(
                f"step(){whose} gives {given}; it must return the loss, a mean over samples or a sum and its weight, "
                "or call loss.backward()"
            )
        if torch.is_grad_enabled() and not total.requires_grad:
            raise SpecError(f"step(): the loss{whose} does not depend on weights that learn; is something detached?")
        return (total.reshape(()), value[1]) if isinstance(value, tuple) else total.reshape(())


class Update:
    """
    The optimizer as a pasted loop knows it.

    `loss.backward()` notes the loss, whose gradients the engine computes when the step is over; so that it can cut a
    batch into micro-batches, average over ranks, clip and scale.
    """

    def __init__(self) -> None:
        self.loss: Tensor | None = None
        self.stepped = False

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Nothing: gradients are new in each step."""

    def step(self) -> None:
        """Mark the end of the update, which follows."""
        if self.loss is None:
            raise SpecError("step(): optimizer.step() comes before loss.backward()")
        self.stepped = True

    def __getattr__(self, name: str) -> Any:
        raise SpecError(
            f"step(): optimizer.{name} is the engine's; set lr, weight_decay and clip in the Spec, or by run.set(...)"
        )

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Take note of the loss that `backward` is called on."""

        def backward(loss: Tensor, *arguments: Any, **options: Any) -> None:
            if arguments or options:
                raise SpecError("step(): backward() with arguments is not known; call loss.backward() of a scalar")
            if self.loss is not None:
                raise SpecError("step() calls backward() twice; add the losses, and call it once")
            self.loss = loss

        def put(function: Any) -> None:
            torch.Tensor.backward = function  # type: ignore[method-assign]

        with switched(lambda: torch.Tensor.backward, put, backward):
            yield
