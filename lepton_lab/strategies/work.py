"""What one process computes and holds in a step, and what a strategy is predicted to make of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from ..spec import Spec, micro_samples

if TYPE_CHECKING:
    from torch import nn


class Amount(NamedTuple):
    """Bytes that grow with the samples: a fixed part, and a part for each sample."""

    fixed: float
    per_sample: float

    def of(self, samples: float) -> float:
        """Bytes for so many samples."""
        return self.fixed + self.per_sample * samples


class Event(NamedTuple):
    """Memory that a step takes (above 0) or gives back (below)."""

    size: Amount
    kind: str
    """KEPT for the backward pass, GRADIENT of a parameter, or PASSING."""
    owner: str
    """Path of the module that keeps it; name of the gradient's parameter; or FORWARD or BACKWARD in front of a path."""


KEPT, GRADIENT, PASSING = "kept", "gradient", "passing"
FORWARD, BACKWARD = ">", "<"
LOSS = "(loss)"  # in place of a path: what is outside of all modules


class Held(NamedTuple):
    """A parameter (or buffer) of the model; all in bytes."""

    size: float
    gradient: float
    """0 where it is not trained."""
    state: float
    """What the optimizer keeps for it."""


@dataclass(frozen=True)
class Cost:
    """What a step is predicted to cost the rank that needs most; memory in bytes at its peak."""

    parameters: float
    """Buffers among them."""
    gradients: float
    optimizer: float
    activations: float
    """All else at the peak: what forward keeps for backward, and what lives for a moment."""
    why: str
    """What it follows from, in a sentence."""
    sent: float = 0.0
    """Bytes that are sent a step by the rank that sends most."""
    idle: float = 0.0
    """Fraction of the step that ranks wait because of how the work is split, from 0 to below 1."""
    hops: float = 0.0
    """Messages of a step that can only follow one another, each of which waits for the network."""
    overlaps: bool = False
    """Whether ranks compute while they send."""
    apart: float = 1.0
    """Steps between two points at which each rank waits for all others."""

    @property
    def memory(self) -> float:
        """The sum of the parts."""
        return self.parameters + self.gradients + self.optimizer + self.activations


@dataclass(frozen=True)
class Workload:
    """
    A step of one process, as it was rehearsed: its model, and where its memory goes.

    Memory grows with the samples of a micro-batch and is kept as `Amount`, so that every way to split a batch follows
    from one rehearsal.
    """

    spec: Spec
    """Its `accumulate` is into how many micro-batches a step's samples are cut, under `gd` too."""
    model: nn.Module
    """Shapes without numbers: its tensors take no memory."""
    batch: int
    """Samples of a step over all ranks."""
    held: dict[str, Held]
    """By name of parameter or buffer; what has two names counts under the first."""
    saved: dict[str, Amount]
    """What forward keeps for backward, by path of the module whose code keeps it."""
    outputs: dict[str, Amount]
    """What each module gives, by its path."""
    events: list[Event] = field(repr=False)
    """A step's memory in order of time."""

    @property
    def parameters(self) -> float:
        """Bytes of parameters and buffers."""
        return sum(held.size for held in self.held.values())

    @property
    def gradients(self) -> float:
        """Bytes of all gradients."""
        return sum(held.gradient for held in self.held.values())

    @property
    def optimizer(self) -> float:
        """Bytes of the optimizer's state."""
        return sum(held.state for held in self.held.values())

    @property
    def buffers(self) -> int:
        """Bytes of the model's buffers (batch norm's, rotary angles)."""
        return sum(buffer.numel() * buffer.element_size() for buffer in self.model.buffers())

    def micro(self, parts: int = 1) -> int:
        """Samples of the largest micro-batch of a rank, if ranks compute so many parts of each batch."""
        return -(-self._largest // parts)

    def idle(self, parts: int) -> float:
        """Fraction of a step that ranks wait for the one with most samples."""
        return 1 - self._largest / (parts * self.micro(parts))

    @property
    def _largest(self) -> int:
        return min(micro_samples(self.spec, self.batch), self.batch)

    def peak_above_state(self, samples: float, resident: bool = False, fractions: Mapping[str, float] = {}) -> float:
        """
        Highest bytes of a step beside parameters and the optimizer's state, gradients among them.

        `samples` are those of a micro-batch. `resident` gradients have a place of their own all the time (in buckets,
        or from the micro-batch before), so that each is there twice for a moment; else they come when activations go.
        `fractions` is what a rank holds of what an event's owner does; else all.
        """
        highest = _highest(
            (event.size.of(samples) * fractions.get(event.owner, 1.0), resident and event.kind == GRADIENT)
            for event in self.events
        )
        gradients = self.held_by_rank(fractions).gradient
        return highest + gradients if resident else max(highest, gradients)

    def held_by_rank(self, fractions: Mapping[str, float]) -> Held:
        """Bytes of parameters and buffers on a rank: the given fraction of those named, all of the others."""
        parts = [(fractions.get(name, 1.0), held) for name, held in self.held.items()]
        return Held(*(sum(share * held[i] for share, held in parts) for i in range(3)))

    def transient_peak(self, samples: float, paths: Sequence[str] = ("",)) -> float:
        """Highest bytes of what some modules neither keep for backward nor give away: one's own, and a gradient."""
        return _highest(
            (event.size.of(samples), event.kind == GRADIENT)
            for event in self.events
            if event.kind != KEPT and within(event.owner.lstrip(FORWARD + BACKWARD), paths)
        )

    def replica(self, parts: int, why: str, sent: float = 0.0, resident: bool = False) -> Cost:
        """Of so many ranks, each holds all and computes a part of every batch; `resident` as of `peak_above_state`."""
        several = self.spec.accumulate > 1
        peak = self.peak_above_state(self.micro(parts), resident or several) - self.gradients
        if resident and several:
            peak += self.gradients  # what the micro-batches before gave lies beside the buckets until the last
        return Cost(self.parameters, self.gradients, self.optimizer, peak, why, sent, self.idle(parts))


def _highest(moves: Iterable[tuple[float, bool]]) -> float:
    """Peak of a running sum of bytes; a marked one takes the place of the marked one before it."""
    live = highest = marked = 0.0
    for size, takes_place in moves:
        live += size
        if takes_place:
            live, marked = live - marked, size
        highest = max(highest, live)
    return highest


def within(name: str, paths: Iterable[str]) -> bool:
    """Whether a module or parameter is one of those at some paths, or in one; all are within ""."""
    return any(not path or f"{name}.".startswith(f"{path}.") for path in paths)


HEADER = 144  # bytes that gloo adds to each message: three headers


def all_reduce(size: float, ranks: int) -> float:
    """Bytes that each rank of a ring sends to sum up so many: once around for the sum, once more to tell it."""
    return 2 * (ranks - 1) / ranks * size + 4 * (ranks - 1) * HEADER


AROUND = 2  # times that a sum goes around a ring


def around(ranks: int, times: float) -> float:
    """Messages one after the other that go around a ring so many times."""
    return times * (ranks - 1)


def all_gather(size: float, ranks: int) -> float:
    """Bytes that each rank of a ring sends so that all have the whole, of so many bytes."""
    return (ranks - 1) / ranks * size + 2 * (ranks - 1) * HEADER


def reduce_scatter(size: float, ranks: int) -> float:
    """Bytes that each rank sends so that each has its part of a sum: gloo makes the whole sum and keeps a part."""
    return all_reduce(size, ranks)


def broadcast(size: float, ranks: int) -> float:
    """Bytes that the first rank of a tree sends so that all have what it has; none for nothing."""
    return math.ceil(math.log2(ranks)) * (size + HEADER) if size else 0.0


def dealt(sizes: Sequence[float], ranks: int) -> float:
    """Bytes that are sent by the rank that sends most, when each broadcasts what it has, of so many bytes, to all."""
    receivers = [_children(place, ranks) for place in range(ranks)]
    full = [root for root in range(ranks) if sizes[root]]  # few, where there are more ranks than parameters
    most = max(sum(sizes[root] * receivers[(rank - root) % ranks] for root in full) for rank in range(ranks))
    return most + HEADER * sum(receivers)


def _children(place: int, ranks: int) -> int:
    """How many ranks the one at a place of gloo's tree sends to; the root's place is 0."""
    lowest = (place & -place).bit_length() - 1 if place else math.ceil(math.log2(ranks))
    return sum(place + (1 << i) < ranks for i in range(lowest))


def shown(size: float) -> str:
    """Bytes as people say them: "4.3 MB"."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"
