"""Samples of a Dataset, read some batches at a time: what is random in them is drawn from seed, epoch and index."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from ..batches import held, tensors
from ..datasets import Shards, Stream, collated, generators
from ..datasets.streams import NOTED
from ..errors import SpecError

if TYPE_CHECKING:
    from torch import Tensor

    from ..datasets import Collate

    # A batch, which is a pair (x, y) where no collate makes another; and the index of a sample with NaN or infinity in
    # it, or -1.
    Loaded = tuple[Any, int]


class Request(NamedTuple):
    """Some batches that are read together."""

    number: int
    """Of the pass through the data: what begins anew with one does so at its first request."""
    seed: int
    epoch: int | None
    """None of an evaluation."""
    batches: list[list[int]]
    """Indices of each."""


class Answer(NamedTuple):
    """What was read."""

    batches: list[Loaded]
    seconds: float
    """That reading took."""


class Samples:
    """
    A Dataset read batch by batch, whose random transforms draw from seed, epoch and index alone.

    So a sample looks the same whatever the rank, the loading process and the point of a resume, and what the model
    draws for dropout is left alone. A method `set_epoch` of the Dataset is called before each epoch; an evaluation
    tells epoch 0, so that it sees the same samples in any process, and training tells its own again after it.
    """

    _teller: ClassVar[object] = None  # whose epoch was told last in this process: parts may be cut from one Dataset

    def __init__(self, dataset: Any, collate: Collate | None = None) -> None:
        self.dataset, self.collate = dataset, collate
        self._number, self._key = 0, object()
        self._together = _at_once(dataset)
        self._draws: bool | None = None  # whether reading draws random numbers; None where nothing was read yet

    def read(self, request: Request, begins: Callable[[], None] = lambda: None) -> Answer:
        """The batches of a request; `begins` is called as each begins to be read, and to be put together."""
        start = time.perf_counter()
        self._begin(request)
        if (held := self._held(request, begins)) is not None:
            return Answer(held, time.perf_counter() - start)
        with generators.kept():
            batches = []
            for indices, samples in zip(request.batches, self._samples(request, begins), strict=True):
                begins()
                batches.append(self._batch(indices, samples, request.seed))
        return Answer(batches, time.perf_counter() - start)

    def _begin(self, request: Request) -> None:
        anew = request.number != self._number
        if anew or Samples._teller is not self._key:
            self._number, Samples._teller = request.number, self._key
            if hasattr(whole := _whole(self.dataset), "set_epoch"):
                whole.set_epoch(request.epoch or 0)
        if anew and isinstance(self.dataset, Stream):
            self.dataset.begin(request.epoch or 0)

    def _held(self, request: Request, begins: Callable[[], None]) -> list[Loaded] | None:
        """The batches of shards that are arrays, of which no sample is taken by itself; None of others."""
        found: list[Loaded] = []
        for indices in request.batches if self.collate is None and isinstance(self.dataset, Shards) else ():
            begins()
            if (pair := self.dataset.batch(indices)) is None:
                return None
            found.append((pair, self._unsound(pair, indices)))
        return found or None

    def _samples(self, request: Request, begins: Callable[[], None]) -> Iterator[list[Any]]:
        """Of each batch."""
        if isinstance(self.dataset, Stream):
            yield from self.dataset.read(request.batches, request.seed % 2**32, begins)
            return
        if self._draws is None and not self._together:
            begins()
            self._draws = self._tried(request.batches[0][0], request.seed)
        if not self._draws and (read := self._drawing_nothing(request, begins)) is not None:
            yield from read
            return
        for indices in request.batches:
            begins()
            yield [self._drawn(index, request.seed) for index in indices]

    def _drawn(self, index: int, seed: int) -> Any:
        generators.seed_for(seed, index)
        return self._one(index)

    def _tried(self, index: int, seed: int) -> bool:
        """Whether reading a sample draws random numbers."""
        generators.seed_for(seed, index)
        before = generators.states()
        self._one(index)
        return not generators.same(before, generators.states())

    def _one(self, index: int) -> Any:
        try:
            return self.dataset[index]
        except StopIteration as error:  # which would end the batch
            number = _number(self.dataset, index)
            raise SpecError(f"data: sample {number} can't be read, since what it is read from has ended") from error
        except Exception as error:
            error.add_note(f"{NOTED}sample {_number(self.dataset, index)}")
            raise

    def _drawing_nothing(self, request: Request, begins: Callable[[], None]) -> list[list[Any]] | None:
        """
        Each batch; None where that draws random numbers, which are to depend on a sample alone.

        Where nothing is drawn no sample needs a seed, which takes about ten microseconds.
        """
        generators.seed_for(request.seed, request.batches[0][0])
        before, read = generators.states(), []
        for indices in request.batches:
            begins()
            read.append(
                list(self.dataset.__getitems__(indices)) if self._together else [self._one(index) for index in indices]
            )
        whole = [len(samples) for samples in read] == [len(indices) for indices in request.batches]
        self._draws = not (whole and generators.same(before, generators.states()))
        return None if self._draws else read

    def _batch(self, indices: list[int], samples: list[Any], seed: int) -> Loaded:
        if self.collate is not None:
            generators.seed_for(seed, -1 - indices[0])  # of a collate that masks at random
            batch = collated(self.collate, samples)
        else:
            parts = zip(_parts(samples, self.dataset, indices), "xy", strict=True)
            batch = tuple(self._stacked(part, name, indices) for part, name in parts)
        return batch, self._unsound(batch, indices)

    def _stacked(self, values: tuple[Any, ...], name: str, indices: list[int]) -> Tensor:
        """The samples' x or y as one plain tensor (B, ...), that needs no class of a cell to be read."""
        import torch
        from torch.utils.data import default_collate

        try:
            with torch.no_grad():  # to detach each would cost as much as stacking them all
                batch = torch.stack(values) if isinstance(values[0], torch.Tensor) else default_collate([*values])
        except (RuntimeError, TypeError, ValueError):
            batch = None
        if isinstance(batch, torch.Tensor):
            return batch.as_subclass(torch.Tensor)
        numbers = [_number(self.dataset, index) for index in indices]
        shapes = [tuple(getattr(value, "shape", ())) for value in values]
        for number, shape in zip(numbers, shapes, strict=True):
            if shape != shapes[0]:
                raise SpecError(
                    f"data: sample {numbers[0]} has {name} of shape {shapes[0]} and sample {number} of {shape}; "
                    "pad or crop them, or give collate=lab.Pad(), since a batch holds samples of one shape"
                )
        place = _odd(values)
        kind = type(values[place]).__name__
        raise SpecError(f"data: sample {numbers[place]} has a {kind} as {name}; make it a tensor or a number")

    def _unsound(self, batch: Any, indices: list[int]) -> int:
        """Index of the first sample with NaN or infinity in it, or -1; where rows are no samples, of the first."""
        for leaf in tensors(batch):
            values = held(leaf)
            rowed = values is leaf
            if values.is_floating_point() and values.itemsize == 1:  # float8, of which torch adds none
                values = values.float()
            if values.is_floating_point() and not values.sum().isfinite():  # which has a bool for each number only then
                rows = values.isfinite().flatten(1).all(1) if values.dim() > 1 else values.isfinite()
                if not rows.all():
                    place = int(rows.int().argmin()) if rowed and rows.shape == (len(indices),) else 0
                    return _number(self.dataset, indices[place])
        return -1


def _odd(values: Sequence[Any]) -> int:
    """The place of the first that is no tensor, array or number; 0 where it is their mixture that makes no batch."""
    plain = (bool, int, float, complex)
    return next((i for i, v in enumerate(values) if not (isinstance(v, plain) or hasattr(v, "dtype"))), 0)


def _whole(dataset: Any) -> Any:
    """The user's Dataset, that parts were cut from."""
    from torch.utils.data import Subset

    return _whole(dataset.dataset) if type(dataset) in (Subset, Stream) else dataset


def _at_once(dataset: Any) -> bool:
    """Whether samples can be asked for together."""
    return callable(getattr(_whole(dataset), "__getitems__", None)) and hasattr(dataset, "__getitems__")


def _number(dataset: Any, index: int) -> int:
    """The index by which a user knows a sample: where a part was cut from a Dataset, that in the whole."""
    from torch.utils.data import Subset

    return _number(dataset.dataset, dataset.indices[index]) if type(dataset) is Subset else index


def _parts(samples: list[Any], dataset: Any, indices: list[int]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """The x and the y of all samples."""
    try:
        x, y = zip(*samples, strict=True)
    except (TypeError, ValueError):
        pairs = [_pair(sample, dataset, index) for sample, index in zip(samples, indices, strict=True)]
        x, y = zip(*pairs, strict=True)  # what can be gone through but is no pair has been refused
    return x, y


def _pair(sample: Any, dataset: Any, index: int) -> tuple[Any, Any]:
    try:
        x, y = sample
    except (TypeError, ValueError):
        number, kind = _number(dataset, index), type(sample).__name__
        raise SpecError(f"data: sample {number} is a {kind}, not a pair (x, y)") from None
    return x, y
