"""What a step costs a rank: a few recorded steps tell its time, its memory, and what it sends to whom."""

from __future__ import annotations

import gc
import math
import os
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ... import operations
from ...files import write_json
from ...store.folder import RunFolder
from ...store.log import Log
from ...switches import switched
from .recording import MARK, Links, Recording

if TYPE_CHECKING:
    from torch import Tensor

    from ...strategies.base import Single, Step

FIRST = 10  # steps of a process before its first window: those that allocate and import lazily are over
TIMES = 10  # each window begins after so many times the steps of the one before: it costs about 25 ms
LENGTH = 3  # steps in a window
COLD = 1  # first of them that don't count, since the recorder itself starts in them


class Tracer:
    """
    Runs a strategy's steps, and records a few of them: after the 10th, the 100th, the 1000th and so on.

    A run of one rank, which waits for nobody, is recorded once. All ranks record the same steps. What is found goes
    into a `cost` event and, span by span, into the run folder's `timeline/step-N/rankR.json`.

    Parameters
    ----------
    folder, strategy, log
        The run's folder, what it trains with, and where this rank's events go.
    done
        Steps that were done before this process began.
    step
        What makes a step, where that is not the strategy's own alone.
    average
        The average of the weights, as far as this rank keeps one; it counts among the parameters.
    """

    def __init__(
        self,
        folder: RunFolder,
        strategy: Single,
        log: Log,
        done: int,
        step: Callable[..., Step] | None = None,
        average: Mapping[str, Tensor] = {},
    ) -> None:
        self._folder, self._strategy, self._log, self._average = folder, strategy, log, average
        self._step = step or strategy.step
        self._origin, self._after = done, FIRST
        self._due: float = done + FIRST
        self._profile: Any = None

    def step(self, done: int, *arguments: Any) -> tuple[Tensor, Tensor | None, int]:
        """`strategy.step(*arguments)`; `done` is the number of steps before it."""
        if done < self._due:
            return self._step(*arguments)
        import torch

        if done == self._due:
            self._begin()
        self._links.begin()
        with torch.profiler.record_function(MARK):
            result = self._step(*arguments)
        self._links.end()
        self._samples += result[2]
        if done == self._due + LENGTH - 1:
            self._end(done + 1)
        return result

    def _begin(self) -> None:
        import torch
        from torch.autograd import profiler

        os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # it would say on stderr that it starts and ends
        self._began, self._samples, self._links = time.time_ns(), 0, Links()
        if not torch.autograd._profiler_enabled():  # by the user's own code, whose recording ours would end
            gpu = "cuda" if self._strategy.device.type == "cuda" else None
            # They tell the sizes of operations between ranks; with them a window costs three times as much.
            shapes = self._strategy.world > 1
            self._profile = profiler.profile(use_device=gpu, record_shapes=shapes, profile_memory=True)
            self._profile.__enter__()

    def _end(self, done: int) -> None:
        import torch

        self._after *= TIMES
        self._due = self._origin + self._after if self._strategy.world > 1 else math.inf
        if self._profile is None:
            return
        if self._strategy.device.type == "cuda":
            torch.cuda.synchronize()
        self._profile.__exit__(None, None, None)
        try:
            # So many new objects would have it look several times, which takes 0.15 s each beside large libraries.
            with switched(gc.isenabled, _collect, False):
                recording = Recording(self._profile.kineto_results.events(), self._strategy.device.type)
            if len(recording.marks) == LENGTH:
                self._write(done, recording)
        except Exception as error:  # what is only watched must not end by that
            self._log.write("note", text=f"what steps up to {done} cost is not known: {type(error).__name__}: {error}")
        self._profile = None

    def _write(self, done: int, recording: Recording) -> None:
        strategy, steps = self._strategy, recording.marks[COLD:]
        estimated = self._name_ranks(recording.operations) / LENGTH
        spans = recording.spans(COLD)
        links = [(ours, theirs, sent / LENGTH) for ours, theirs, sent in self._links.sent()]
        counted = strategy.device.type == "cpu"  # else most takes other ways than the kernel's connections
        work = sum(span["end"] - span["begin"] for span in spans if span["kind"] == "compute")
        row = {
            "step": done,
            "seconds": round(sum(end - begin for begin, end in steps) / len(steps) / 1e9, 7),
            "compute": round(work / len(steps) / 1e9, 7),
            "samples": self._samples / LENGTH,
            "bytes": round(sum(sent for *_, sent in links) if counted else estimated),
            "counted": "kernel" if counted else "sizes",
            "memory": self._memory(recording),
        }
        place = self._folder.path / "timeline" / f"step-{done:08d}"
        place.mkdir(parents=True, exist_ok=True)
        window = {
            "t": time.time(),
            "rank": strategy.rank,
            "world": strategy.world,
            "parts": strategy.parts,
            "strategy": strategy.spec.strategy,
            "options": strategy.spec.options,
            **row,
            "steps": steps,
            "links": links,
            "spans": spans,
        }
        write_json(place / f"rank{strategy.rank}.json", window, indent=None)
        self._log.write("cost", **row)

    def _memory(self, recording: Recording) -> dict[str, int]:
        """Bytes at the highest moment of the last step, and of its parts."""
        import torch
        from torch.utils._pytree import tree_leaves

        strategy = self._strategy
        parameters = list(strategy.module.parameters())
        # With what else a strategy keeps from step to step, such as the error of a compression.
        states = tree_leaves([list(strategy.optimizer.state.values()), strategy.local_state()])
        counted: set[int] = set()
        parts = {
            "parameters": _bytes([*parameters, *strategy.module.buffers(), *self._average.values()], counted),
            "gradients": _bytes((p.grad for p in parameters), counted),
            "optimizer": _bytes((state for state in states if isinstance(state, torch.Tensor)), counted),
        }
        persistent = sum(parts.values())
        peak = torch.cuda.max_memory_allocated() if strategy.device.type == "cuda" else persistent + recording.rise()
        return {**parts, "activations": max(peak - persistent, 0), "peak": peak}

    def _name_ranks(self, collectives: list[dict[str, Any]]) -> float:
        """Give each collective the ranks that take part in it; returns what this rank sent, by the sizes."""
        if self._strategy.alone:
            return 0.0
        from torch.distributed import distributed_c10d as c10d

        groups = {name: c10d.get_process_group_ranks(group) for group, name in c10d._world.pg_names.items()}
        everyone = list(range(self._strategy.world))
        members: dict[tuple[str, int], deque[list[int]]] = defaultdict(deque)
        sent = 0.0
        for entry in operations.recorded():
            if entry["time_created_ns"] >= self._began:
                ranks = groups.get(entry["process_group"][0], everyone)
                members[operations.named(entry)].append(ranks)
                sent += operations.sent(entry, len(ranks))
        for collective in collectives:
            if queue := members.get((collective["name"], collective["numbers"])):
                collective["ranks"] = queue.popleft()
        return sent


def _collect(on: bool) -> None:
    """Whether Python looks for garbage."""
    gc.enable() if on else gc.disable()


def _bytes(tensors: Iterable[Tensor | None], counted: set[int]) -> int:
    """Memory of what this process holds of tensors; an address in `counted` counts no more."""
    total = 0
    for tensor in tensors:
        local = getattr(tensor, "to_local", lambda tensor=tensor: tensor)()
        if local is not None and local.device.type != "meta" and local.data_ptr() not in counted:
            counted.add(local.data_ptr())
            total += local.numel() * local.element_size()
    return total
