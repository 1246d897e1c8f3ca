"""What is done to training from outside while it goes on: new values, checkpoints, pauses, a stop."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from functools import cached_property
from typing import Any

import torch

from ..optimizers import factor
from ..spec import Spec
from ..store import checkpoints
from ..store.checkpoints import NonFinite
from ..store.control import Control
from ..store.folder import RunFolder
from ..store.log import Log
from ..strategies.base import Single
from .average import Average
from .feed import Feed
from .position import Part, Progress

WAIT = 0.02  # seconds between looks while paused


class Steerable:
    """Training that obeys the commands of a run's control, all ranks at the same step, and saves its state."""

    folder: RunFolder
    strategy: Single
    log: Log
    part: Part
    spec: Spec
    train: Feed
    now: Progress
    control: Control
    average: Average | None
    steps: int
    _extended: dict[str, Any]
    nonfinite: int | None
    _saved: int | None
    _bears_nan: bool

    @cached_property
    def _factor(self) -> Callable[[int, int], float]:
        return factor(self.spec)

    def _say(self, **note: Any) -> None:
        if self.strategy.rank == 0:
            self.log.write("note", step=self.now.step, **note)

    def _totals(self) -> list[float]:
        sums = torch.tensor(self.now.sums, dtype=torch.float64, device=self.strategy.device)
        return self.strategy.total(sums).tolist()

    def _goes_on(self) -> str:
        """What an extension does to the learning rate, as a note."""
        extended, lr = self._extended, self.now.lr * self._factor(self.now.step, self.steps)
        return (
            f"goes on for {extended['more']} more epochs, to {extended['epochs']}: schedule={self.spec.schedule!r} is "
            f"that of a run of so many, whose rate at this step is {lr:.4g}"
        )

    def _set_lr(self) -> float:
        lr = self.now.lr * self._factor(self.now.step - self.part.step, self.steps)
        for group in self.strategy.optimizer.param_groups:
            group["lr"] = lr * group.get("ratio", 1.0)
        return lr

    def _steer(self, values: dict[str, float]) -> None:
        """Take over what is to hold from here on in place of what was saved."""
        vars(self.now).update(values)
        for group in self.strategy.optimizer.param_groups:
            if group.get("weight_decay") is not None and group.get("steered", True):
                group["weight_decay"] = self.now.weight_decay

    def _obey(self, command: dict[str, Any]) -> str:
        """Do what a command says, on all ranks at this step; returns "stop" if the loop must end."""
        name = command["command"]
        values = {key: value for key, value in command.items() if key not in ("command", "at", "asked")}
        asked = {"asked": command["asked"]} if "asked" in command else {}
        if self.strategy.rank == 0:
            self.log.write("note", command=name, step=self.now.step, **values, **asked)
            if asked and name == "stop":
                self.folder.note(reason=f"a hook asked for it at step {command['asked']}")
        if name == "set":
            self._saved = None  # what was saved at this step lacks it
            self._steer(values)
            if self.strategy.rank == 0:
                self.folder.note(base_lr=self.now.lr)
        elif name == "checkpoint":
            self._save()
        elif name == "pause":
            return self._pause()
        return name

    def _pause(self) -> str:
        """Stand still, all ranks at the same step, until resumed or stopped; the last command obeyed is returned."""
        self._state("paused", step=self.now.step)
        while True:
            command = self.control.next(self.now.step, waiting=True)
            if command is None:
                time.sleep(WAIT)
            elif command["command"] != "pause":
                if self._obey(command) == "stop":
                    return "stop"
                if command["command"] == "resume":
                    self.log.rest(None)
                    self._state("running", step=self.now.step)
                    return "resume"

    def stop(self) -> str:
        """Save what the steps done by now have made, and leave it at that."""
        self._state("stopping", step=self.now.step)
        self._save()
        return "stopped"

    def _save(self) -> None:
        self._check()
        if self._saved != self.now.step:
            start = time.perf_counter()
            self.now.totals = self._totals()
            average = self.average.values if self.average else {}
            self.log.flush()  # what led to a checkpoint is not to be lost where that is not
            checkpoints.save(self.folder, self.strategy, self.now.step, asdict(self.now), average)
            self._saved = self.now.step
            self.log.rest(time.perf_counter() - start)

    def _check(self) -> None:
        """Fail if any loss so far was not finite."""
        self.log.flush()
        step, unsound = self.nonfinite, self.train.unsound
        if step is None:
            self._bears_nan |= unsound is not None
            return
        if unsound is not None and not self._bears_nan:
            raise NonFinite(f"the loss is NaN or infinite, since sample {unsound} of the training data holds such", 0)
        if step == 1:
            message = "the first loss is NaN or infinite, before anything was learned: look into the data and the loss"
            raise NonFinite(message, 0)
        raise NonFinite(f"the loss became NaN or infinite at step {step}: lower lr, or set clip", step)

    def _state(self, state: str, **facts: Any) -> None:
        if self.strategy.rank == 0:
            self.folder.set_state(state, **facts)
            self.log.write("state", state=state, **facts)
