"""Hooks: a user's functions that a rank calls while it trains."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from ..errors import SpecError
from ..store.control import STEERED
from ..values import called

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

    from .loop import Fit

EVENTS = ("start", "step", "epoch", "evaluation", "end")
LOOKS = 20  # steps after which a hook can be told to be slow


@dataclass(frozen=True)
class Moment:
    """
    What a hook is called with on every rank: where training stands, and what it may ask for.

    A hook looks at `event` first. Requests take effect on all ranks at the same step, the next one or one after it;
    what several ranks ask for at the same step counts once.
    """

    event: str
    """"start" (also of a resumed run), "step", "epoch", "evaluation" or "end"; of each link where a run compresses."""
    model: nn.Module
    """As this rank holds it: whole, or its part under a strategy that splits models."""
    optimizer: Optimizer
    """The gradients of the last step are still there."""
    step: int
    """Optimizer steps done."""
    epoch: int
    """Epochs done."""
    figures: dict[str, float]
    """The latest of each split over all ranks, by names such as `val_accuracy`, and `train_loss` of the last epoch."""
    split: str = ""
    """What was evaluated: "val" or "test"."""
    loss: Tensor | None = None
    """Of this step, the mean over this rank's samples; stays on the device."""
    rank: int = 0
    world: int = 1
    ask: Callable[..., object] = print
    """What takes a request: (command, **values)."""

    @property
    def log(self) -> Callable[..., None]:
        """`lab.log`: a number of one's own."""
        from ..store.own import log  # which takes the compiler along

        return log

    def stop(self) -> None:
        """Ask for a checkpoint and the end of the run, as `run.stop()` does."""
        self.ask("stop")

    def checkpoint(self) -> None:
        """Ask for a checkpoint."""
        self.ask("checkpoint")

    def set(self, **values: float) -> None:
        """
        Ask for another `lr`, `clip` or `weight_decay` from the next step on; noted on the curve.

        Raises
        ------
        SpecError
            If a value is refused.
        """
        for name in values:
            if name not in STEERED:
                raise SpecError(f"{name}={values[name]!r}: a hook can set {', '.join(STEERED)}")
        self.ask("set", **values)


Hook: TypeAlias = Callable[[Moment], object]


class Hooks:
    """The hooks of one rank's training, called in the order in which they were given."""

    def __init__(self, hooks: Sequence[Hook], fit: Fit) -> None:
        self._hooks, self._fit = hooks, fit
        self._seconds = [0.0] * len(hooks)  # in steps
        self._training = 0.0  # seconds between their calls
        self._ended: float | None = None
        self._steps = 0
        self._told = False

    def __call__(self, event: str, split: str = "", loss: Tensor | None = None) -> None:
        """Call all of them; what one raises is raised."""
        fit = self._fit
        moment = Moment(
            event,
            fit.strategy.module,
            fit.strategy.optimizer,
            fit.now.step,
            fit.now.epoch,
            dict(fit.latest),
            split,
            loss,
            fit.strategy.rank,
            fit.strategy.world,
            self._ask,
        )
        for i, hook in enumerate(self._hooks):
            began = time.perf_counter()
            hook(moment)
            self._seconds[i] += time.perf_counter() - began if event == "step" else 0.0

    def step(self, loss: Tensor) -> None:
        """Call all of them after a step; one that takes longer than the steps themselves is told of, once."""
        began = time.perf_counter()
        if self._ended is not None:
            self._training += began - self._ended
            self._steps += 1
        self("step", loss=loss)
        self._ended = time.perf_counter()
        if not self._told and self._steps >= LOOKS and max(self._seconds) > self._training:
            self._told = True
            self._slow()

    def _slow(self) -> None:
        slowest = max(range(len(self._hooks)), key=self._seconds.__getitem__)
        hook = called(self._hooks[slowest])
        mine, step = self._seconds[slowest] / (self._steps + 1), self._training / self._steps
        text = f"hook {hook!r} takes {mine * 1e3:.3g} ms a step, longer than the step itself ({step * 1e3:.3g} ms)"
        if self._fit.strategy.rank == 0:
            text += ': let it do less, or only at "epoch"'
            self._fit.log.write("note", step=self._fit.now.step, hook=hook, text=text)

    def _ask(self, command: str, **values: float) -> None:
        checked = self._fit.spec.replace(**values)
        values = {name: getattr(checked, name) for name in values}
        self._fit.control.ask(command, self._fit.now.step, **values)


def check(hooks: Any) -> None:
    """Refuse, with a SpecError, what is no list of hooks."""
    import inspect

    if not isinstance(hooks, (list, tuple)):
        raise SpecError(f"hooks={called(hooks)}: must be a list of functions: hooks=[{called(hooks)}]")
    for hook in hooks:
        name = called(hook)
        if isinstance(hook, type) or not callable(hook):
            remedy = f"give one of its objects, {name}()" if isinstance(hook, type) else "give a function of one"
            raise SpecError(f"hooks: {name} can't be called with a moment; {remedy}")
        try:
            inspect.signature(hook).bind(None)
        except TypeError:
            raise SpecError(
                f"hooks: {name}{inspect.signature(hook)} must take one argument, a lab.Moment: "
                f"def {name}(moment): ..., with moment.event, moment.model, moment.step"
            ) from None
        except ValueError:  # builtins tell no signature
            continue
