"""Samples that belong together, so that no group is both learned from and tested on."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def groups(keys: Iterable[Iterable[Hashable]]) -> list[int]:
    """For each sample, of which some keys are given, its group's number: samples with a key in common are of one."""
    parents: list[int] = []
    first: dict[Hashable, int] = {}
    for place, own in enumerate(keys):
        parents.append(place)
        for key in own:
            other = _top(parents, first.setdefault(key, place))
            top = _top(parents, place)
            parents[max(top, other)] = min(top, other)
    return [_top(parents, place) for place in range(len(parents))]


def _top(parents: list[int], place: int) -> int:
    while parents[place] != place:
        parents[place] = parents[parents[place]]
        place = parents[place]
    return place


def dealt(groups: Sequence[int], seed: int, *fractions: float) -> list[Tensor]:
    """
    Places of samples: a part for each fraction, made of whole groups in random order, preceded by one of all the rest.

    A part has its fraction of the samples, or what the group that fills it holds beyond.
    """
    import torch

    numbers, kinds = torch.tensor(groups), torch.tensor(sorted(set(groups)))
    order = kinds[torch.randperm(len(kinds), generator=torch.Generator().manual_seed(seed))]
    sizes = torch.bincount(numbers, minlength=int(kinds.max()) + 1)[order].cumsum(0)
    parts, begin = [], 0
    for share in accumulate(fractions):
        end = int((sizes < round(share * len(groups))).sum()) + 1
        parts.append(torch.isin(numbers, order[begin:end]).nonzero().flatten())
        begin = end
    return [torch.isin(numbers, order[begin:]).nonzero().flatten(), *parts]
