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
        self._seed, self._at = 0, 0
        self._source: Iterator[Any] | None = None

    def __len__(self) -> int:
        return len(self.dataset)

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_at": 0, "_source": None}

    def begin(self, epoch: int, seed: int) -> Stream:
        """The same, from its first sample of an epoch on."""
        if hasattr(self.dataset, "set_epoch"):
            self.dataset.set_epoch(epoch)
        self._seed, self._source = seed, None
        return self

    def __getitem__(self, index: int) -> Any:
        if self._source is None or index < self._at:
            self._at, self._source = 0, iter(self.dataset)
        while self._at < index:
            with drawing(self._seed, self._at):
                self._next()
        return self._next()

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


@contextlib.contextmanager
def drawing(seed: int, index: int) -> Iterator[None]:
    """Random transforms of a sample draw from a seed and its index alone; generators are as before afterwards."""
    import numpy as np
    import torch

    state = torch.get_rng_state(), np.random.get_state(), random.getstate()
    number = hash((seed, index)) % 2**32  # of whole numbers: the same in every process
    torch.default_generator.manual_seed(number)
    np.random.seed(number)
    random.seed(number)
    try:
        yield
    finally:
        torch.set_rng_state(state[0])
        np.random.set_state(state[1])
        random.setstate(state[2])
