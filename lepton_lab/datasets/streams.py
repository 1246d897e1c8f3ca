"""Samples that come one after the other: an IterableDataset, read by index as far as that goes forwards."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, partial
from itertools import groupby, islice
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from ..errors import SpecError
from .generators import States, kept, restore, seeded, states

if TYPE_CHECKING:
    from torch import Tensor

PATIENCE = 10.0  # seconds that reading a stream may take, where its length is not known
SHARDS = 48  # that a stream is cut into, at most: each is open at a time, and 1, 2, 3, 4, 6, 8, 12 ... ranks share them
SKIPPED = 256  # samples that are passed over at a time
NOTED = "while reading "
"""Begins a note that an error in reading samples gets."""


class Stream:
    """
    An IterableDataset as a map-style Dataset that is read forwards; an index behind begins it anew.

    Every rank reads the whole of it and takes its own samples, so that each is seen once an epoch whatever the world.
    One that deals itself, with `num_shards` and `shard(num_shards, index)` as Hugging Face's have, is read by shards,
    of which a rank has its own. Their samples then come by turns, in the same order whatever the world.

    Parameters
    ----------
    dataset
        The user's.
    count
        Samples of an epoch; its own length if not given.
    shards
        Samples of each shard; none where it does not deal itself.

    Attributes
    ----------
    undealt : str
        Why it is read whole though it offers shards.
    forwards : bool
        That it can't be looked through in any order, as other splits can.
    """

    undealt = ""
    forwards = True

    def __init__(self, dataset: Any, count: int | None = None, shards: Sequence[int] = ()) -> None:
        self.dataset, self._count, self.shards = dataset, count, tuple(shards)
        self.begin()

    def __len__(self) -> int:
        if self.shards:
            return sum(self.shards)
        return len(self.dataset) if self._count is None else self._count

    def __getstate__(self) -> dict[str, Any]:
        return {"dataset": self.dataset, "_count": self._count, "shards": self.shards, "undealt": self.undealt}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["dataset"], state["_count"], state.get("shards", ()))  # type: ignore[misc]
        self.undealt = state.get("undealt", "")

    def begin(self, epoch: int = 0) -> None:
        """Go on with its first sample, of an epoch of which the whole has been told."""
        if not self.shards:
            self._readers = [_Reader(lambda: self.dataset, "the stream", self._remedy)]
            return
        count = len(self.shards)
        self._readers = [
            _Reader(partial(_shard, self.dataset, count, i, epoch), f"shard {i} of the stream", self._remedy)
            for i in range(count)
        ]

    def __getitem__(self, index: int) -> Any:
        with kept():
            return self.read([[index]])[0][0]

    def read(
        self, batches: list[list[int]], seed: int = 0, begins: Callable[[], None] = lambda: None
    ) -> list[list[Any]]:
        """
        Samples by index, upwards; what draws random numbers in the stream goes on as if it alone drew any.

        It leaves its own state of the generators behind; see `kept`. `begins` is called at each batch, or at each
        shard's part of it.
        """
        if not self.shards:
            return self._readers[0].read(batches, seed, begins)
        shards, places = self._dealing
        found: list[list[Any]] = [[None] * len(batch) for batch in batches]
        wanted: dict[int, list[tuple[int, int, int]]] = {}
        for number, batch in enumerate(batches):
            for slot, (shard, place) in enumerate(zip(shards[batch].tolist(), places[batch].tolist(), strict=True)):
                wanted.setdefault(shard, []).append((number, slot, place))
        for shard, parts in wanted.items():
            runs = [[place for *_, place in group] for _, group in groupby(parts, itemgetter(0))]
            read = self._readers[shard].read(runs, hash((seed, shard)) % 2**32, begins)
            for (number, slot, _), sample in zip(parts, (one for run in read for one in run), strict=True):
                found[number][slot] = sample
        return found

    def of(self, indices: Tensor) -> Tensor:
        """The shard of each sample, (B,)."""
        return self._dealing[0][indices]

    @cached_property
    def _dealing(self) -> tuple[Tensor, Tensor]:
        """Of each sample its shard and its place there, (N,); longer shards have more turns, so that all end alike."""
        import torch

        sizes = torch.tensor(self.shards)
        shard = torch.arange(len(sizes)).repeat_interleave(sizes)
        place = torch.arange(len(shard)) - (sizes.cumsum(0) - sizes)[shard]
        order = ((place.double() + 0.5) / sizes[shard]).argsort(stable=True)
        return shard[order].short(), place[order]

    def _remedy(self) -> str:
        if self._count is None and not self.shards:
            remedy = f"its len() is {len(self)}; let it tell how many samples make an epoch"
        else:
            counts = " ".join(map(str, self.shards)) or len(self)
            remedy = f"had {counts} when it was counted; let `__iter__` begin anew and give as many each time"
        if self.shards or not _of_several():
            return remedy
        return f"{remedy}, to each rank: one that deals itself has num_shards and shard(num_shards, index)"


def _of_several() -> bool:
    """Whether this is one of several ranks, whose number a stream may have asked for."""
    from torch import distributed

    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


class _Reader:
    """
    What reads one iterable forwards.

    Parameters
    ----------
    open
        Gives it.
    name
        For errors.
    remedy
        What an error says of one that ends too soon.
    """

    def __init__(self, open: Callable[[], Iterable[Any]], name: str, remedy: Callable[[], str]) -> None:
        self._open, self._name, self._remedy = open, name, remedy
        self._at = 0
        self._source: Iterator[Any] | None = None
        self._states: States | None = None  # of random generators, between what is read
        self._last: Any = None

    def read(self, batches: list[list[int]], seed: int, begins: Callable[[], None]) -> list[list[Any]]:
        """Samples by place, upwards; the one that was read last may be asked for again."""
        if self._source is not None and batches[0][0] < self._at - 1:
            self._source = None
        if self._source is None or self._states is None:
            seeded(seed)
        else:
            restore(self._states)
        try:
            if self._source is None:
                self._at, self._source = 0, iter(self._open())
            return [self._batch(places, begins) for places in batches]
        finally:
            self._states = states()

    def _batch(self, places: list[int], begins: Callable[[], None]) -> list[Any]:
        begins()
        while self._at < places[0]:
            self._next(min(places[0] - self._at, SKIPPED))
        before, last = self._at, self._last
        samples = self._next(places[-1] + 1 - before)
        return [samples[place - before] if place >= before else last for place in places]

    def _next(self, count: int) -> list[Any]:
        """So many samples more."""
        if not count:
            return []
        assert self._source is not None  # read has made it
        samples: list[Any] = []
        try:
            samples.extend(islice(self._source, count))
        except Exception as error:
            error.add_note(f"{NOTED}sample {self._at + len(samples)} of {self._name}")
            raise
        self._at += len(samples)
        if len(samples) < count:
            raise SpecError(f"data: {self._name} ended after {self._at} samples, and {self._remedy()}")
        self._last = samples[-1]
        return samples


def _shard(dataset: Any, count: int, index: int, epoch: int = 0) -> Any:
    """One of so many shards, which is another Dataset and must be told the epoch, too."""
    shard = dataset.shard(num_shards=count, index=index)
    if hasattr(shard, "set_epoch"):
        shard.set_epoch(epoch)
    return shard


def streamed(dataset: Any, name: str) -> Stream:
    """An IterableDataset; how many samples make an epoch, and a shard, they say, or is found by reading them once."""
    told = _told(dataset)
    shards = [_shard(dataset, count, i) for count in [_offered(dataset)] for i in range(count)]
    counts = [count for shard in shards if (count := _told(shard)) is not None]
    why = ""
    if len(counts) < len(shards) and told is None:
        counts = counted(shards, name)
    if len(counts) < len(shards):
        why = "its shards don't say by len() how many samples they have"
    elif 0 in counts:
        why = "one of its shards is empty"
    elif shards and told not in (None, sum(counts)):
        why = f"its shards have {sum(counts)} samples by their len(), and it has {told}"
    if shards and not why:
        return Stream(dataset, shards=counts)
    stream = Stream(dataset, None if told is not None else sum(counts) or counted([dataset], name)[0])
    stream.undealt = why
    return stream


def _told(dataset: Any) -> int | None:
    """How many samples there are, as `len()` says it; None where it does not."""
    try:
        return len(dataset)
    except TypeError:
        return None


def _offered(dataset: Any) -> int:
    """In how many shards a stream is read that can deal itself, as Hugging Face's does; 0 of others."""
    count = getattr(dataset, "num_shards", 0)
    if not isinstance(count, int) or count < 2 or not callable(shard := getattr(dataset, "shard", None)):
        return 0
    return min(count, SHARDS) if {"num_shards", "index"} <= {*inspect.signature(shard).parameters} else 0


def counted(datasets: Sequence[Any], name: str) -> list[int]:
    """How many samples streams without a length have, by reading them once; those that go on for long are refused."""
    end = time.monotonic() + PATIENCE
    counts: list[int] = []
    with kept():
        for dataset in datasets:
            seeded(0)
            count = 0
            for count, _ in enumerate(dataset, 1):
                if time.monotonic() > end:
                    raise SpecError(
                        f"{name} is an IterableDataset that doesn't say how long it is, and has not ended after "
                        f"{sum(counts) + count} samples in {PATIENCE:g} s: give it a __len__, the samples of an epoch"
                    )
            counts.append(count)
    return counts
