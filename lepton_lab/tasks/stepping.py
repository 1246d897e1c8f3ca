"""What a task's own step may ask for, and what it may not do."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from ..errors import SpecError
from ..values import called, taken

if TYPE_CHECKING:
    from .base import Task

OFFERED = ("player", "optimizer")
"""What a step may ask for by name, beside the model and the batch."""
OURS = {
    "clip_grad_norm_": "set Spec(clip=...)",
    "clip_grad_value_": "set Spec(clip=...), which bounds the norm",
    "GradScaler": "set Spec(precision='fp16')",
    "no_sync": "set Spec(accumulate=...)",
}
"""What a loop does with gradients that the engine does instead, and how it is asked to."""


def asked(task: type[Task]) -> list[str]:
    """Which of OFFERED the step of a task asks for; a SpecError where it needs anything else."""
    parameters = list(inspect.signature(task.step).parameters.values())[3:]
    names, lacking = taken(parameters, OFFERED)
    if lacking:
        raise SpecError(
            f"task={called(task)}: step() needs {lacking!r}, which nobody gives it; it may ask for model, batch, "
            f"{' and '.join(OFFERED)}"
        )
    return names


def check(task: type[Task]) -> None:
    """Refuse, with a SpecError, a step that works with what is not the run's, or does what is the engine's."""
    from torch import nn
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

    names, where = asked(task), f"task={called(task)}: step()"
    for name in task.step.__code__.co_names:
        if name in OURS:
            raise SpecError(f"{where} uses {name}, which the engine does; leave it out, and {OURS[name]}")
    outer = inspect.getclosurevars(task.step)
    for name, value in {**outer.globals, **outer.nonlocals}.items():
        if isinstance(value, Optimizer) and "optimizer" not in names:
            raise SpecError(
                f"{where} uses {name}, which updates the notebook's copy of the weights; let it ask for the run's: "
                "def step(self, model, batch, optimizer)"
            )
        if isinstance(value, LRScheduler):
            raise SpecError(f"{where} uses {name}, which sets the notebook's lr; leave it out, and set Spec(schedule=)")
        if isinstance(value, nn.Module) and any(p.requires_grad for p in value.parameters()):
            raise SpecError(f"{where} uses {name}, which would not learn; take `model`, the run's own")
    if "optimizer" in outer.unbound:
        raise SpecError(f"{where} uses optimizer; let it ask for it: def step(self, model, batch, optimizer)")
