"""Samples that come one after the other: an IterableDataset, read by index as far as that goes forwards."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from typing import Any

from ..errors import SpecError


class Stream:
    """
    An IterableDataset as a map-style Dataset that is read forwards; an index behind begins it anew.

    Every rank reads the whole of it and takes its own samples, so that each is seen once an epoch whatever the world.
    `len()` says how many samples make an epoch. A method `set_epoch`, if it has one, is called before each.

    Parameters
    ----------
    dataset
        The user's; it has a length.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        self._at = 0
        self._source: Iterator[Any] | None = None
        self._states: States | None = None  # of random generators, between what is read

    def __len__(self) -> int:
        return len(self.dataset)

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_at": 0, "_source": None, "_states": None}

    def begin(self, epoch: int) -> Stream:
        """The same, from its first sample of an epoch on."""
        if hasattr(self.dataset, "set_epoch"):
            self.dataset.set_epoch(epoch)
        self._source = None
        return self

    def __getitem__(self, index: int) -> Any:
        return self.read([index])[0]

    def read(self, indices: list[int], seed: int = 0) -> list[Any]:
        """Samples by index, upwards; what draws random numbers in the stream goes on as if it alone drew any."""
        if self._source is None or indices[0] < self._at:
            self._at, self._source, self._states = 0, iter(self.dataset), None
        others = states()
        restore(self._states or seeded(seed))
        try:
            samples = []
            for index in indices:
                while self._at < index:
                    self._next()
                samples.append(self._next())
            return samples
        finally:
            self._states = states()
            restore(others)

    def _next(self) -> Any:
        assert self._source is not None  # __getitem__ has made it
        try:
            sample = next(self._source)
        except StopIteration:
            raise SpecError(
                f"data: the stream ended after {self._at} samples, and its len() is {len(self)}; let it tell how many "
                "samples make an epoch"
            ) from None
        self._at += 1
        return sample


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


def seeded(seed: int) -> States:
    """As they are after a seed, which they then have."""
    import numpy as np
    import torch

    torch.default_generator.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)
    return states()


@contextlib.contextmanager
def drawing(seed: int, index: int) -> Iterator[None]:
    """Random transforms of a sample draw from a seed and its index alone; generators are as before afterwards."""
    others = states()
    seeded(hash((seed, index)) % 2**32)  # of whole numbers: the same in every process
    try:
        yield
    finally:
        restore(others)
