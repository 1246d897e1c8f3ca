"""
What is wrong with a data set, found without a model: duplicates, leaks, blank samples, outliers, classes and splits.

A sample is named by its split and its place there. Legend of the shape comments: N samples, F numbers of each.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..preparation import kind
from .nearness import described_by, near
from .picking import digests, labels_of, length, parts

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from ..datasets import Data, Split

Place = tuple[str, int]
"""A split's name and a place in it."""
ORDER = ("test", "val", "train")
"""Of two that are alike the one in the earlier split stays, so that what is measured stays what it was."""
REFERENCES = 5000  # training samples that others are compared with, at most
NEIGHBOURS = 5
BLOCK = 1024  # samples that are compared at once


@dataclass(frozen=True)
class Twin:
    """A sample that is there already, and the one that it is like."""

    sample: Place
    first: Place
    differ: bool
    """Whether the two have different labels."""

    @property
    def leaks(self) -> bool:
        """Whether the two are in different splits: what is measured on one was trained on by the other."""
        return self.sample[0] != self.first[0]


def twins(data: Data, distance: float = 0.0) -> list[Twin]:
    """
    Samples that are there already, in their own split or in another, each with the first that it is like.

    Parameters
    ----------
    data
        Splits that can be looked through.
    distance
        How far apart two that are alike may be: 0 finds the same ones alone; see `nearness` for others.
    """
    splits = {name: split for name in ORDER if (split := parts(data).get(name)) is not None}
    places = [(name, place) for name, split in splits.items() for place in range(length(split))]
    first: dict[int, int] = {}
    seen: dict[str, int] = {}
    for at, one in enumerate(digest for split in splits.values() for digest in digests(split)):
        if seen.setdefault(one, at) != at:
            first[at] = seen[one]
    if distance:
        for i, j in near(data, [*splits.values()], distance):
            first[j] = min(first.get(j, i), i)
    labels = _labels(splits)
    return [Twin(places[j], places[i], labels[i] != labels[j]) for j, i in sorted(first.items())]


def _labels(splits: dict[str, Split]) -> list[Any]:
    every: list[Any] = []
    for split in splits.values():
        labels = labels_of(split)
        every += [None] * length(split) if labels is None else labels.tolist()
    return every


def blank(data: Data) -> list[Place]:
    """Samples that are one value all over: a black picture, silence, a text of nothing but padding."""
    if kind(data) == "nest":
        return []
    return [(name, place) for name, split in parts(data).items() for place, one in enumerate(_constant(split)) if one]


def _constant(split: Split) -> Iterator[bool]:
    import numpy as np

    if isinstance(split, tuple):
        flat = split[0].flatten(1)
        yield from (flat == flat[:, :1]).all(1).tolist() if flat.shape[1] > 1 else [False] * len(flat)
        return
    for place in range(length(split)):
        x = np.asarray(split[place][0])
        yield x.size > 1 and bool((x == x.reshape(-1)[0]).all())


def outliers(data: Data, sigmas: float, seed: int) -> list[Place]:
    """
    Training samples that lie far from all others.

    Measured is the mean distance to the 5 nearest of at most 5,000 others, drawn by the seed, much as S. Ramaswamy,
    R. Rastogi and K. Shim (SIGMOD 2000) rank outliers; a sample is one if its logarithm of it lies more than `sigmas`
    robust standard deviations (1.4826 times the median deviation) above the median.
    """
    import torch

    x = described_by(data, parts(data)["train"])
    if len(x) <= NEIGHBOURS + 1:
        return []
    if kind(data) == "table":
        x = (x - x.mean(0)) / x.std(0).clamp(min=1e-12)
    generator = torch.Generator().manual_seed(seed)
    others = torch.randperm(len(x), generator=generator)[:REFERENCES]
    far = torch.cat([_reach(part, x[others]) for part in x.split(BLOCK)]).clamp(min=1e-6).log()
    middle = far.median()
    spread = 1.4826 * (far - middle).abs().median()
    return [("train", place) for place in (far > middle + sigmas * spread).nonzero()[:, 0].tolist()]


def _reach(part: Tensor, others: Tensor) -> Tensor:
    """The mean distance of each to its nearest others; itself, which is among them or not, is left out."""
    import torch

    near_ = torch.cdist(part, others).topk(NEIGHBOURS + 1, largest=False).values
    itself = near_[:, 0] < 1e-6
    return torch.where(itself, near_[:, 1:].mean(1), near_[:, :-1].mean(1))


def counts(data: Data) -> dict[str, np.ndarray]:
    """Samples of each class by split, (K,); none where samples have no label or more than one."""
    import numpy as np

    known = {name: labels_of(split) for name, split in parts(data).items()} if data.classes else {}
    return {
        name: np.bincount(labels[labels >= 0], minlength=len(data.classes))
        for name, labels in known.items()
        if labels is not None
    }
