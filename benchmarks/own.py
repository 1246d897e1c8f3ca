"""What `lab.log` and hooks cost the training that calls them in each step."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

import lepton_lab as lab

from . import ours
from .processes import image_data, take_turns
from .rows import Row

TITLE = "lab.log in each step: MLP 784-128-10, batch 100, one process on one core"
CALLS = 20_000


class Plain(nn.Sequential):
    """An MLP."""

    def __init__(self, shape: tuple[int, ...], classes: int) -> None:
        super().__init__(nn.Flatten(), nn.Linear(torch.Size(shape).numel(), 128), nn.ReLU(), nn.Linear(128, classes))


class Logging(Plain):
    """The same, which logs two numbers in its forward."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output = super().forward(x)
        lab.log("bias", self[3].bias[0])
        lab.log("samples", len(x), reduce="sum")
        return output


def looks(moment: lab.Moment) -> None:
    """A hook that logs the loss of each step."""
    if moment.event == "step":
        lab.log("seen", moment.loss)


def measure(quick: bool) -> list[Row]:
    """Rows of training rates with and without, and of nanoseconds a call."""
    data = image_data()
    spec = lab.Spec(
        dataset=data, batch_size=100, epochs=20 if data == "digits" else 3, eval_every=0, checkpoint_every=0
    )

    def rate(**own: Any) -> float:
        return ours.step_rate(ours.train(spec, 1, **own))

    contenders = {
        "plain": lambda: rate(model=Plain),
        "logging": lambda: rate(model=Logging),
        "hooked": lambda: rate(model=Plain, hooks=[looks]),
    }
    repeats = 2 if quick else 7
    rates = take_turns(contenders, repeats)
    calls = [call() for _ in range(repeats + 1)][1:]  # the first imports what comes late
    unit, plain = "samples/s", rates["plain"]
    return [
        Row(f"steps on {data}, two numbers each, beside none", rates["logging"], unit, plain, at_least=0.95),
        Row("steps with a hook that logs a number, beside none", rates["hooked"], unit, plain, at_least=0.95),
        Row("the loop pays, a tensor a step", [figures[0] for figures in calls], "ns a call", at_most=5000),
        Row("CPU of loop and writing thread together, the same", [figures[1] for figures in calls], "ns a call"),
        Row("a call where no run trains", [idle() for _ in range(repeats)], "ns a call", at_most=5000),
    ]


def call() -> tuple[float, float]:
    """Nanoseconds of a call a step while a thread writes what it notes: of the loop, and of all CPU time."""
    from lepton_lab.store.log import Log
    from lepton_lab.store.recorder import Recorder, recording

    with tempfile.TemporaryDirectory() as folder:
        log = Log(Path(folder, "rank0.jsonl"), 0)
        log.own = Recorder(Path(folder), log, 1, True)
        log.start()
        cpu = time.process_time()
        with recording(log.own):
            spent = _calls(lambda step: setattr(log.own, "place", (step, "train")))
        log.close()
        return spent, (time.process_time() - cpu) * 1e9 / CALLS


def idle() -> float:
    """Nanoseconds of a call that does nothing."""
    return _calls(lambda step: None)


def _calls(step: Any) -> float:
    value, spent = torch.tensor(0.5), 0
    for first in range(0, CALLS, 100):
        before = time.perf_counter_ns()
        for at in range(first, first + 100):
            step(at)
            lab.log("gate", value)
        spent += time.perf_counter_ns() - before
        time.sleep(0.001)
    return spent / CALLS
