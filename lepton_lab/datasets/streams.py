"""Samples that come one after the other: an IterableDataset, read by index as far as that goes forwards."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterator
from typing import Any

from ..errors import SpecError

PATIENCE = 10.0  # seconds that reading a stream may take, where its length is not known


class Stream:
    """
    An IterableDataset as a map-style Dataset that is read forwards; an index behind begins it anew.

    Every rank reads the whole of it and takes its own samples, so that each is seen once an epoch whatever the world.
    `len()` says how many samples make an epoch.

    Parameters
    ----------
    dataset
        The user's.
    count
        Samples of an epoch; its own length if not given.
    """

    def __init__(self, dataset: Any, count: int | None = None) -> None:
        self.dataset, self._count = dataset, count
        self._at = 0
        self._source: Iterator[Any] | None = None
        self._states: States | None = None  # of random generators, between what is read

    def __len__(self) -> int:
        return len(self.dataset) if self._count is None else self._count

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_at": 0, "_source": None, "_states": None}

    def begin(self) -> None:
        """Go on with its first sample."""
        self._source = None

    def __getitem__(self, index: int) -> Any:
        with kept():
            return self.read([index])[0]

    def read(self, indices: list[int], seed: int = 0) -> list[Any]:
        """
        Samples by index, upwards; what draws random numbers in the stream goes on as if it alone drew any.

        It leaves its own state of the generators behind; see `kept`.
        """
        if self._source is None or indices[0] < self._at:
            self._at, self._source, self._states = 0, iter(self.dataset), None
        if self._states is None:
            seeded(seed)
        else:
            restore(self._states)
        samples = []
        try:
            for index in indices:
                while self._at < index:
                    self._next()
                samples.append(self._next())
            return samples
        finally:
            self._states = states()

    def _next(self) -> Any:
        assert self._source is not None  # __getitem__ has made it
        try:
            sample = next(self._source)
        except StopIteration:
            if self._count is None:
                remedy = f"its len() is {len(self)}; let it tell how many samples make an epoch"
            else:
                remedy = f"had {len(self)} when it was counted; let `__iter__` begin anew and give as many each time"
            raise SpecError(f"data: the stream ended after {self._at} samples, and {remedy}") from None
        self._at += 1
        return sample


def counted(dataset: Any, name: str) -> int:
    """How many samples a stream without a length has, by reading it once; one that goes on for long is refused."""
    end, count = time.monotonic() + PATIENCE, 0
    with kept():
        seeded(0)
        for count, _ in enumerate(dataset, 1):
            if time.monotonic() > end:
                raise SpecError(
                    f"{name} is an IterableDataset that doesn't say how long it is, and has not ended after {count} "
                    f"samples in {PATIENCE:g} s: give it a __len__, the samples of an epoch"
                )
    return count


States = tuple[Any, Any, Any]
"""Of torch's, NumPy's and Python's own random generator."""


def states() -> States:
    """As they are."""
    import numpy as np
    import torch

    return torch.get_rng_state(), np.random.get_state(), random.getstate()


def restore(held: States) -> None:
    """Go on from states that were held."""
    import numpy as np
    import torch

    torch.set_rng_state(held[0])
    np.random.set_state(held[1])
    random.setstate(held[2])


def same(one: States, other: States) -> bool:
    """Whether nothing was drawn between them."""
    import torch

    alike = all((a == b).all() if hasattr(a, "all") else a == b for a, b in zip(one[1], other[1], strict=True))
    return torch.equal(one[0], other[0]) and alike and one[2] == other[2]


def seeded(seed: int) -> None:
    """Begin all three anew."""
    import numpy as np
    import torch

    torch.default_generator.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


def seed_for(seed: int, index: int) -> None:
    """Have random transforms of a sample draw from a seed and its index alone."""
    seeded(hash((seed, index)) % 2**32)  # of whole numbers: the same in every process


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Generators are as before afterwards: once for many samples, since NumPy's takes 80 microseconds to tell."""
    others = states()
    try:
        yield
    finally:
        restore(others)
