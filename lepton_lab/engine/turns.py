"""Several players, who step in turn: each by the strategy's own step, with its own parameters and optimizer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .. import metrics
from ..metrics.loss import Loss
from ..optimizers import OPTIMIZERS
from ..optimizers.several import Several
from ..strategies.base import Single, Step
from ..tasks.adversarial import STEPS

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

    from ..batches import Batch
    from ..datasets import Data
    from ..objectives import Objective
    from ..spec import Spec
    from ..tasks import Task
    from ..tasks.criteria import Stepped


class Turns:
    """
    What makes an optimizer step of one step of each player whose turn it is, on the same batch.

    Parameters
    ----------
    strategy
        Set up, with a task's own step around the model.
    task
        Says who plays, in which order, and how often.

    Attributes
    ----------
    done : int
        Steps before the next one, which tell whose turn it is.
    uneven : bool
        Whether some step less often than others.
    """

    def __init__(self, strategy: Single, task: Task) -> None:
        self._strategy = strategy
        owned = {player: strategy.called.owned(player) for player in task.players}
        self._others = {player: [p for other, own in owned.items() if other != player for p in own] for player in owned}
        self._often = {player: options.get(STEPS, 1) for player, options in task.players.items()}
        self._round = max(self._often.values())
        self.done, self.uneven = 0, min(self._often.values()) < self._round
        specs = {player: task.spec_of(player, strategy.spec) for player in task.players}
        self._clips = {player: spec.clip for player, spec in specs.items() if "clip" in task.players[player]}

    def step(self, batches: Iterable[Batch], count: int, objective: Objective, clip: float) -> Step:
        """As the strategy's; its loss is the sum of theirs who play, and each player's is counted, NaN of others."""
        batches = list(batches)
        playing = self._playing()
        first, *others = playing
        steps = [self._turn(first, batches, count, objective, clip)]
        steps += self._rest(others, batches, count, objective, clip)
        self.done += 1
        losses, samples = torch.stack([step.loss for step in steps]), steps[0].samples
        counts = losses.new_full((len(metrics.steps()) - 1 + len(self._often),), math.nan)
        players = [*self._often]
        for player, loss in zip(playing, losses, strict=True):
            counts[players.index(player) - len(players)] = loss * samples
        return Step(losses.sum(), counts, samples)

    def _playing(self) -> list[str]:
        """Who steps on the next batch: at a round's end all do, so that who steps seldom meets what others learned."""
        left = self._round - self.done % self._round
        return [player for player, steps in self._often.items() if steps >= left]

    def _rest(self, players: list[str], *arguments: Any) -> list[Step]:
        """The turns after the first, in which a step is not broken off: the weights would be those of no step."""
        return [self._turn(player, *arguments) for player in players]

    def _turn(self, player: str, batches: list[Batch], count: int, objective: Objective, clip: float) -> Step:
        # It begins by forgetting the gradients of all, so that the optimizer passes over who does not play.
        with self._strategy.called.turn(player, self._others[player]):
            return self._strategy.step(objective.over(batches), count, objective, self._clips.get(player, clip))


class PlayerLoss(Loss):
    """The loss of one player."""

    def __init__(self, data: Data, criterion: Stepped, player: int) -> None:
        super().__init__(data, criterion)
        self._stepped, self._player = criterion, player

    def add(self, output: Any, batch: Batch) -> Tensor:
        """Sum and weight of a batch."""
        total, weight = self._stepped.part(output, batch, self._player)
        return torch.stack([part.detach().double().reshape(()) for part in (total, weight)])


def losses(task: Task, data: Data, criterion: Any) -> dict[str, metrics.Metric]:
    """The figures of evaluations that are each player's, by name."""
    return {name: PlayerLoss(data, criterion, i) for i, name in enumerate(task.figures())}


def optimizers(strategy: Single, task: Task, spec: Spec) -> Callable[[list[nn.Parameter]], Optimizer]:
    """What makes the optimizer of all players, each part with the fields that its player has of its own."""

    def make(parameters: list[nn.Parameter]) -> Any:
        parts = []
        for player in task.players:
            own = task.spec_of(player, spec)
            part = OPTIMIZERS[own.optimizer](strategy.called.owned(player), own)
            for group in part.param_groups:
                group["ratio"] = own.lr / spec.lr
                group["steered"] = "weight_decay" not in task.players[player]
            parts.append(part)
        return Several(parts)

    return make
