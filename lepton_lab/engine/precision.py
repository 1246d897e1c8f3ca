"""Precision that a few steps decide: bfloat16 where this model is faster in it on this device, else float32."""

from __future__ import annotations

import copy
import statistics
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .. import host, metrics, values
from ..batches import described
from ..datasets import Data, Stream
from ..datasets.collating import WINDOW
from ..files import home, read_json, write_json
from ..store.folder import RunFolder
from ..strategies.base import MakeOptimizer, Single
from ..tasks import Task, called
from .baseline import wait
from .feed import Feed

AUTO = "auto"
CANDIDATES = ("fp32", "bf16")
GAIN = 0.9  # of the time in float32 that bfloat16 may take to be chosen
ROUNDS = 5
LIMIT = 3.0  # seconds after which no other round begins


def settle(
    folder: RunFolder, strategy: Single, data: Data, task: Task, model: nn.Module, make: MakeOptimizer
) -> dict[str, Any] | None:
    """
    Give a strategy the precision that its run is to have, where its spec leaves that open; every rank calls it.

    Rank 0 times steps of a copy of the model, unless this machine did so before or the run goes on; the others take
    what it found. The model, and what random numbers come next, stay as they are.

    Returns
    -------
    dict or None
        "precision", and seconds of a step by precision; None where the spec says which.
    """
    if folder.spec.precision != AUTO:
        return None
    path = folder.path / "precision.json"
    if strategy.rank == 0 and not path.exists():
        write_json(path, _remembered(strategy, data, task, model, lambda: _timed(strategy, data, task, model, make)))
    wait(path)
    found: dict[str, Any] = read_json(path)
    strategy.spec = strategy.spec.model_copy(update={"precision": found["precision"]})
    return found


def text(found: dict[str, Any]) -> str:
    """What was found, in words."""
    steps = " and ".join(f"{1000 * found[name]:.3g} ms in {name}" for name in CANDIDATES)
    return f"precision: {found['precision']}, since a step took {steps} (median)"


def _key(strategy: Single, data: Data, task: Task, model: nn.Module) -> str:
    """All on which it depends how long a step takes, as a short hash."""
    spec = strategy.spec
    shapes = [(name, tuple(p.shape)) for name, p in model.named_parameters()]
    device = torch.cuda.get_device_name() if strategy.device.type == "cuda" else host.processor("model name")
    machine = device, torch.get_num_threads(), torch.__version__
    fields = spec.batch_size, spec.world, spec.accumulate, spec.optimizer, [*spec.options.items()]
    samples = data.sample, None if data.example is None else described(data.example)
    minimised = called(task), None if task.given is None else values.called(task.given)
    return f"{zlib.crc32(repr((machine, fields, samples, minimised, shapes, str(model))).encode()):08x}"


def _remembered(
    strategy: Single, data: Data, task: Task, model: nn.Module, find: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    """What was found of such steps on this machine before; else it is found, and kept."""
    path, key = home() / "precisions.json", _key(strategy, data, task, model)
    known: dict[str, Any] = read_json(path) or {}
    if key not in known:
        known = (read_json(path) or {}) | {key: find()}  # of other runs, too, that ended meanwhile
        write_json(path, known)
        host.release_memory()  # of two models with their optimizers
    return known[key]


def _timed(strategy: Single, data: Data, task: Task, model: nn.Module, make: MakeOptimizer) -> dict[str, Any]:
    """Seconds of a step by precision, taking turns, and the precision to take."""
    with torch.random.fork_rng(devices=[strategy.device] if strategy.device.type == "cuda" else []):
        steps = {name: _step(strategy, data, task, copy.deepcopy(model), make, name) for name in CANDIDATES}
        seconds: dict[str, list[float]] = {name: [] for name in steps}
        began = time.perf_counter()
        for step in steps.values():
            step()  # what it allocates and chooses first is no part of a step
        while len(seconds["fp32"]) < ROUNDS and (not seconds["fp32"] or time.perf_counter() - began < LIMIT):
            for name, step in steps.items():
                start = time.perf_counter()
                step()
                seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {"precision": "bf16" if medians["bf16"] < GAIN * medians["fp32"] else "fp32", **medians}


def _some(train: Any, size: int) -> Any:
    """Samples from all over, enough for a batch of alike lengths, since those of a Dataset may have to be read."""
    if isinstance(train, (tuple, Stream)):
        return train
    return torch.utils.data.Subset(train, range(0, len(train), max(1, len(train) // (WINDOW * size))))


def _step(
    strategy: Single, data: Data, task: Task, model: nn.Module, make: MakeOptimizer, precision: str
) -> Callable[[], None]:
    """A step of one rank's part of a batch, by one process."""
    spec = strategy.spec
    size = max(1, spec.batch_size // (spec.world * spec.accumulate))
    changes = {"precision": precision, "world": 1, "accumulate": 1, "batch_size": size, "compile": False}
    single = Single(spec.model_copy(update=changes))
    single.start(0, 1, Path(), strategy.device)
    single.setup(model, make)
    feed = Feed(_some(data.train, size), data, single.spec, single, task)
    try:
        micros, count = next(feed.epoch(0))
        batches = list(micros)
    finally:
        feed.close()
    objective = metrics.counted(data, task.criterion())

    def step() -> None:
        single.step(objective.over(batches), count, objective, spec.clip)
        if strategy.device.type == "cuda":
            torch.cuda.synchronize()

    return step
