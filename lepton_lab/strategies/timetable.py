"""
Schedules of a pipeline: who computes what when, as a table to draw and a share of idle time to predict.

F forward, B backward, I the part of B that the stage before waits for (gradient of the inputs), W the rest of B
(gradient of the weights), which can wait.
"""

from __future__ import annotations

from itertools import accumulate
from types import SimpleNamespace
from typing import NamedTuple

PARTS = {"FORWARD": "F", "FULL_BACKWARD": "B", "BACKWARD_INPUT": "I", "BACKWARD_WEIGHT": "W"}
UNITS = {"F": 1.0, "B": 2.0, "I": 1.0, "W": 1.0}  # duration; a layer's backward is two products to the forward's one


WAITS = 9 / 14  # in a transformer's block: outputs of linear layers, of all that is kept, in widths of the model


class Kind(NamedTuple):
    """One way to order the work."""

    name: str
    """Its class in torch.distributed.pipelining."""
    stages: int
    """Stages that each rank holds."""
    rounds: bool
    """Whether micro-batches go through in rounds of as many as there are ranks."""


PIPELINES = {
    "gpipe": Kind("ScheduleGPipe", 1, False),  # Huang and others, arXiv:1811.06965
    "1f1b": Kind("Schedule1F1B", 1, False),  # Narayanan and others, arXiv:1806.03377
    "interleaved": Kind("ScheduleInterleaved1F1B", 2, True),  # Narayanan and others, arXiv:2104.04473
    "zero_bubble": Kind("ScheduleInterleavedZeroBubble", 1, True),  # Qi and others, arXiv:2401.10241, ZB-H1
}


class Slot(NamedTuple):
    """One piece of work; times in units of a rank's forward of one micro-batch through all that it holds."""

    rank: int
    work: str
    stage: int
    microbatch: int
    start: float
    end: float


def order(schedule: str, world: int, microbatches: int) -> list[list[tuple[str, int, int]]]:
    """For each rank what it computes in one step, in turn: (F, B, I or W; stage; micro-batch)."""
    if schedule in ("gpipe", "1f1b"):
        ahead = [microbatches if schedule == "gpipe" else world - rank for rank in range(world)]
        return [_alternating(rank, min(ahead[rank], microbatches), microbatches) for rank in range(world)]
    from torch.distributed import pipelining

    kind = PIPELINES[schedule]
    rounds = max(1, microbatches // world)
    # What the methods below read of a schedule that runs; an actual one needs ranks.
    facts = SimpleNamespace(
        pp_group_size=world,
        n_local_stages=kind.stages,
        number_of_rounds=rounds,
        microbatches_per_round=microbatches // rounds,
        _n_microbatches=microbatches,
    )
    table = getattr(pipelining, kind.name)._calculate_single_rank_operations
    rows = [[action for action in table(facts, rank) if action is not None] for rank in range(world)]
    return [[(PARTS[a.computation_type.name], a.stage_index, a.microbatch_index) for a in row] for row in rows]


def timeline(schedule: str, world: int, microbatches: int) -> list[Slot]:
    """
    One step of a pipeline whose stages cost the same and whose messages cost nothing, each piece as early as can be.

    Parameters
    ----------
    schedule
        A name of PIPELINES.
    world, microbatches
        Ranks, and micro-batches a step; what `Pipeline` takes.
    """
    queues = [list(reversed(row)) for row in order(schedule, world, microbatches)]
    last = world * PIPELINES[schedule].stages - 1
    ended: dict[tuple[str, int, int], float] = {}  # end of forwards F and of input gradients I
    free = [0.0] * world
    slots = []
    while any(queues):
        for rank, row in enumerate(queues):
            while row and all(need in ended for need in _needs(*row[-1], last)):
                work, stage, micro = row.pop()
                start = max([free[rank], *(ended[need] for need in _needs(work, stage, micro, last))])
                free[rank] = start + UNITS[work] / PIPELINES[schedule].stages
                if work != "W":
                    ended["F" if work == "F" else "I", stage, micro] = free[rank]
                slots.append(Slot(rank, work, stage, micro, start, free[rank]))
    return slots


def bubble(schedule: str, world: int, microbatches: int) -> float:
    """Fraction of a step that ranks stand idle, from 0 to below 1, as `timeline` has it."""
    slots = timeline(schedule, world, microbatches)
    busy = sum(slot.end - slot.start for slot in slots)
    return 1 - busy / (world * max(slot.end for slot in slots))


def highest(schedule: str, world: int, microbatches: int, saved: list[float]) -> list[float]:
    """
    Most that each rank holds at once for backward passes to come, in the units of `saved`.

    That is what a micro-batch leaves in each stage, from its forward to the end of its backward; WAITS of it again are
    the gradients that wait for W after I.
    """
    moves: list[list[tuple[float, float]]] = [[] for _ in range(world)]
    for slot in timeline(schedule, world, microbatches):
        size = saved[slot.stage]
        moves[slot.rank] += {
            "F": [(slot.start, size)],
            "B": [(slot.end, -size)],
            "I": [(slot.end, WAITS * size)],
            "W": [(slot.end, -(1 + WAITS) * size)],
        }[slot.work]
    return [max(accumulate(size for _, size in sorted(row))) for row in moves]


def _alternating(rank: int, ahead: int, microbatches: int) -> list[tuple[str, int, int]]:
    """`ahead` forwards, then a backward and a forward in turn, and the backwards that are left."""
    row = [("F", rank, micro) for micro in range(ahead)]
    for micro in range(microbatches):
        row.append(("B", rank, micro))
        if ahead + micro < microbatches:
            row.append(("F", rank, ahead + micro))
    return row


def _needs(work: str, stage: int, micro: int, last: int) -> list[tuple[str, int, int]]:
    """What must have ended before a piece of work can start."""
    if work == "F":
        return [("F", stage - 1, micro)] if stage else []
    if work == "W":
        return [("I", stage, micro)]
    return [("F", stage, micro), *([("I", stage + 1, micro)] if stage < last else [])]
