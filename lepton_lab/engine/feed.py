"""Batches: a global seeded order of samples, cut into steps, micro-batches and the ranks' parts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property, lru_cache, partial
from itertools import islice, tee
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..answers import labels
from ..batches import Batch, moved, rows
from ..datasets import Data, Pad, Shards, Stream, bucketed, length, lengths, ordered
from ..host import cores
from ..spec import Spec, micro_samples, step_samples
from ..strategies.base import Single
from ..tasks import Paired
from . import filling
from .inputs import Inputs
from .loading import Loader, Pass

if TYPE_CHECKING:
    from torch import Tensor

    from ..tasks import Task

EVALUATED = -1  # in the place of a step, where an evaluation draws
EVAL_ELEMENTS = 2**18  # inputs of an evaluation batch hold about this many numbers; for tokens, their scores do


class Epoch(NamedTuple):
    """One that is trained on, or read ahead."""

    seed: int
    steps: Iterator[list[Part]]
    fetched: Iterator[Any]
    reading: Pass | None
    """None where its samples are held."""


class Part(NamedTuple):
    """What a rank computes of a micro-batch."""

    indices: Tensor
    """Of the samples that are fetched, (B,)."""
    share: float
    """Of the step's loss."""
    mine: Tensor | None = None
    """Places of this rank's own among them; None where all are."""


class Feed:
    """
    The batches of one split for one rank.

    A pair of tensors is held on the device as it came (uint8 stays uint8) and batched by index; another Dataset goes
    through a DataLoader in the same order.

    Parameters
    ----------
    part
        (x, y) tensors of shapes (N, ...) and (N, ...), a map-style Dataset of such samples, or None for no samples.
    data
        Says what its samples are, and how they are put together; see `Inputs` for what is made of them.
    task
        Says what of a batch the model is called with; pairs (x, y) where there is none.

    Attributes
    ----------
    unsound : int or None
        Index of a sample seen by now that holds NaN or infinity.
    """

    def __init__(self, part: Any, data: Data, spec: Spec, strategy: Single, task: Task | None = None) -> None:
        self.task = task or Paired(data)
        self._collate, self._pairs = data.collate, data.example is None
        self.spec, self.strategy = spec, strategy
        self.device = strategy.device
        self.tensors: tuple[Tensor, Tensor] | None = None
        self.dataset: Any = part
        self.n = length(part)
        self.unsound: int | None = None
        if isinstance(part, tuple):
            self.tensors = (part[0].to(self.device), part[1].to(self.device))
        self._measured = data.lengths if part is data.train else None
        self._inputs = Inputs(data, spec, strategy)
        self._whole = self.task.prepares or self._inputs.mixes
        self._begun: dict[int, Epoch] = {}  # that are read ahead
        self._micro = lru_cache(partial(micro_samples, spec))  # asked in each step
        micro = -(-spec.batch_size // spec.accumulate)
        elements = max(math.prod(data.shape) * max(data.vocabulary, 1), 1)
        self.eval_batch = max(micro, min(1024, EVAL_ELEMENTS // elements))

    @property
    def batch(self) -> int:
        """Samples of one optimizer step over all ranks; all of them for full-batch gradient descent."""
        return step_samples(self.spec, self.n)

    @property
    def steps(self) -> int:
        """Optimizer steps an epoch; the last one takes what is left."""
        return -(-self.n // self.batch)

    def epoch(self, epoch: int, skip: int = 0, end: int = 0) -> Iterator[tuple[Iterator[Batch], int]]:
        """
        Steps of an epoch in its seeded order, from step `skip` on: each an iterator over micro-batches and its length.

        The order depends on seed and epoch alone, so that any world, and a resumed run, sees the same batches. Epochs
        before `end` are read ahead.
        """
        begun = self._begun.pop(epoch, None)
        if begun is None or skip or not self._loader.holds(begun.reading):
            self._begun = {}  # of an epoch that was broken off
            begun = self._begin(epoch, skip, end)
        seed, steps, fetched, _ = begun
        for number, step in enumerate(steps, skip):
            yield (self._batch(next(fetched), part, (seed, number, i)) for i, part in enumerate(step)), len(step)
        next(fetched, None)  # for who reads to see that it was the last

    def _begin(self, epoch: int, skip: int, end: int) -> Epoch:
        seed = self.spec.seed * 1_000_003 + epoch
        # Planned as they are fetched, since all plans of a set past memory would fill it.
        steps, ahead = tee(self._plan(step) for step in islice(self._cut(seed), skip, None))
        indices = (part.indices for step in ahead for part in step)
        return Epoch(seed, steps, *self._fetch(indices, seed, epoch, partial(self._follow, epoch + 1, end)))

    def _follow(self, epoch: int, end: int) -> Pass | None:
        """What is read of an epoch, while the one before it is trained on."""
        if epoch >= end:
            return None
        self._begun[epoch] = begun = self._begin(epoch, 0, end)
        return begun.reading

    def _cut(self, seed: int) -> Iterable[Tensor]:
        """The samples of each step of an epoch, (B,)."""
        steps = ordered(self.dataset, seed, self.batch)
        return self._order(seed).split(self.batch) if steps is None else steps

    def _order(self, seed: int) -> Tensor:
        """All samples in the order of an epoch, (N,)."""
        import torch

        if isinstance(self.dataset, Stream):
            return torch.arange(self.n)
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(self.n, generator=generator)
        return order if self._lengths is None else bucketed(order, self._lengths, self.batch, generator)

    @cached_property
    def _lengths(self) -> Tensor | None:
        """The length of each sample, (N,), where batches are to be of alike ones."""
        if self._inputs.filler is not None and self.tensors is not None:
            return filling.lengths(self.tensors[0], self._inputs.filler)
        if not isinstance(self._collate, Pad) or not self._collate.bucket or isinstance(self.dataset, (Shards, Stream)):
            return None
        own = self.strategy
        known = lengths(self.dataset, self._measured, own.part, own.parts, self._total)
        return known if len(known.unique()) > 1 else None

    def _total(self, values: Tensor) -> Tensor:
        """A sum over the parts of the ranks, on the CPU."""
        return self.strategy.total(values.to(self.device)).cpu()

    def padding(self) -> tuple[float, float] | None:
        """What fraction of a batch is padding, and would be of random ones, or None; every rank calls this."""
        import torch

        if self._lengths is None:
            return None
        held = self._lengths

        def padded(order: Tensor) -> float:
            room = sum(int(held[part].max()) * len(part) for part in order.split(self.batch))
            return 1 - int(held.sum()) / max(room, 1)

        return padded(self._order(0)), padded(torch.randperm(self.n, generator=torch.Generator().manual_seed(0)))

    def whole(self) -> Iterator[Batch]:
        """This rank's part of all samples once, in their own order; share 0 marks a borrowed sample."""
        draws = self.task.prepares and self.task.everywhere
        parts, ahead = tee(self._part(part, whole=draws) for part in self._spans())
        fetched, _ = self._fetch((part.indices for part in ahead), 0)
        for number, (part, batch) in enumerate(zip(parts, fetched, strict=True)):
            yield self._batch(batch, part, (self.spec.seed, EVALUATED, number))

    def places(self) -> Iterator[Tensor]:
        """Which samples of the split each batch of `whole` has, (B,); none where its sample is borrowed."""
        return (self._mine(part) for part in self._spans())

    def _spans(self) -> Iterator[Tensor]:
        """All samples in their own order, some at a time, (B,)."""
        import torch

        return (
            torch.arange(begin, min(begin + self.eval_batch, self.n)) for begin in range(0, self.n, self.eval_batch)
        )

    def _plan(self, step: Tensor) -> list[Part]:
        """
        The rank's part of each micro-batch of a step, and its share of the step's loss.

        The shares make the mean over ranks, summed over micro-batches, the mean over the global batch.
        """
        size = self._micro(len(step))
        micros = (step,) if size >= len(step) else step.split(size)
        return [self._part(part, len(step), self._whole) for part in micros]

    def _part(self, indices: Tensor, step: int = 0, whole: bool = False) -> Part:
        """This rank's part of a micro-batch; where it would have none it borrows one, so that all ranks compute."""
        import torch

        places = torch.arange(len(indices)) if whole else indices
        mine = self._mine(places)
        share = self.strategy.parts * len(mine) / step if step else float(len(mine) > 0)
        mine = mine if len(mine) else self._borrowed(places)
        return Part(indices, share, mine) if whole else Part(mine, share)

    def _mine(self, places: Tensor) -> Tensor:
        """This rank's among some samples, (B,): of a stream that is dealt by shards, those of its own."""
        if self._held is None:
            return self.strategy.shard(places)
        shards = self.dataset.of(places)
        return places[shards % self.strategy.parts == self.strategy.part]

    def _borrowed(self, places: Tensor) -> Tensor:
        """Some sample that this rank has at hand, (1,): of its own shards the last one before these, or the first."""
        import torch

        if self._held is None:
            return places[:1]
        before = max(int(torch.searchsorted(self._held, places[:1])) - 1, 0)
        return self._held[before : before + 1]

    @cached_property
    def _held(self) -> Tensor | None:
        """The samples of this rank's shards, (N / parts,), where a stream deals itself; else None."""
        import torch

        if not isinstance(self.dataset, Stream) or not self.dataset.shards or self.undealt:
            return None
        every = torch.arange(self.n)
        return every[self.dataset.of(every) % self.strategy.parts == self.strategy.part]

    @property
    def undealt(self) -> str:
        """Why every rank reads the whole of a stream that offers shards, as a clause."""
        if not isinstance(self.dataset, Stream) or self.strategy.parts == 1:
            return ""
        count, parts = len(self.dataset.shards), self.strategy.parts
        if count and self._whole:
            what = "the task draws its numbers for" if self.task.prepares else "a transform mixes the samples of"
            return f"{what} the whole of a batch"
        return f"its {count} shards can't be dealt evenly to {parts} ranks" if count % parts else self.dataset.undealt

    def _batch(self, batch: Any, part: Part, drawn: tuple[int, int, int]) -> Batch:
        """A micro-batch as model and loss take it."""
        import torch

        samples = len(part.indices)
        if part.mine is not None:
            generator = torch.Generator(self.device).manual_seed(hash(drawn) % 2**63)
            evaluated = drawn[1] == EVALUATED
            prepare = self.task.prepare_evaluation if evaluated else self.task.prepare
            batch = rows(prepare(batch, generator), part.mine, samples)
            samples = len(part.mine)
        return Batch(*self.task.split(batch), part.share, samples)

    def _fetch(
        self,
        indices: Iterator[Tensor],
        seed: int,
        epoch: int | None = None,
        following: Callable[[], Pass | None] = lambda: None,
    ) -> tuple[Iterator[Any], Pass | None]:
        """Batches of some samples each, and how they are read; None where they are held."""
        if self.tensors is not None:
            return self._taken(self.tensors, indices, epoch), None
        places, asked = tee(indices)  # some batches are read ahead
        reading = Pass((part.tolist() for part in asked), seed, epoch, following)
        return self._read(places, reading), reading

    def _taken(self, held: tuple[Tensor, Tensor], indices: Iterator[Tensor], epoch: int | None) -> Iterator[Any]:
        x, y = held
        for part in indices:
            part = part.to(self.device, non_blocking=True)
            yield self._inputs.pair(x.index_select(0, part), y.index_select(0, part), part, epoch)

    def _read(self, indices: Iterator[Tensor], reading: Pass) -> Iterator[Any]:
        for places, (batch, unsound) in zip(indices, self._loader.through(reading), strict=True):
            if unsound >= 0:
                self.unsound = unsound
            batch = moved(batch, self.device)
            if not self._pairs:
                yield self._inputs.nest(batch)
            else:  # what a collate made stays in its shape: targets (B, 1) may be a token each
                y = labels(batch[1]) if self._collate is None else batch[1]
                yield self._inputs.pair(batch[0], y, places, reading.epoch)

    @cached_property
    def _loader(self) -> Loader:
        spec, pinned = self.spec, self.device.type == "cuda"
        spare = min(4, max(cores() // self.strategy.world - 1, 0))
        workers = spare if spec.workers < 0 else spec.workers
        if isinstance(self.dataset, Stream):
            workers = min(workers, 1)  # who reads a stream reads all of it
        elif isinstance(self.dataset, Shards) and spec.workers < 0:
            workers = self.dataset.workers(spare, self.device.type == "cpu")
        # No map-style Dataset: processes that others fork later would share what it opened in the rank.
        chooses = spec.workers < 0 and not spec.prefetch and not pinned and isinstance(self.dataset, Stream)
        return Loader(self.dataset, workers, spec.timeout, pinned, self._collate, spec.prefetch, chooses)

    def close(self) -> None:
        """End the processes that load; they begin again where more is read."""
        if "_loader" in vars(self):
            self._loader.close()


def by_itself(part: Any, data: Data, spec: Spec, task: Task | None = None) -> Feed:
    """The batches of a part as one process has them on the CPU, for who looks at samples outside of training."""
    import torch

    # A copy, since the options of another strategy stay with the spec.
    single = Single(spec.model_copy(update={"accumulate": 1, "world": 1}))
    single.start(0, 1, Path(), torch.device("cpu"))
    return Feed(part, data, single.spec, single, task)


def alone(spec: Spec, n: int, parts: int) -> bool:
    """Whether one of `parts` ranks gets a batch of a single sample, in a step over some of `n` samples."""
    batch = step_samples(spec, n)
    for step in (batch, n % batch or batch):
        size = micro_samples(spec, step)
        if any(0 < micro < 2 * parts for micro in (min(size, step), step % size)):
            return True
    return False
