"""Batches of samples of any form: how leaves are put together, and unequal lengths padded."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from ..batches import MASK, TEXTS, described, over, tensors
from ..errors import SpecError
from .generators import kept, seeded

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Collate: TypeAlias = Callable[[list[Any]], Any]
WINDOW = 50  # batches whose samples are sorted together
GLANCED = 16  # samples, from all over, by which it is seen whether lengths differ
TURN = 64  # samples whose lengths one rank reads before the next one's
IGNORED_IN = ("labels", "label", "y")
"""Leaves whose padding a loss is to leave out."""


class Pad:
    """
    Puts samples together leaf by leaf; tensors of unequal length are padded at their end to the longest of the batch.

    Samples may be any nest of dicts, tuples and lists with tensors, arrays and numbers at its leaves; what else there
    is, such as text, comes as a list. Labels, and the second of a pair, are padded with `ignored`. Where there are
    `input_ids` and no `attention_mask`, one is made.

    Parameters
    ----------
    ignored
        What pads labels: the number that the loss leaves out.
    bucket
        Whether training takes samples of alike lengths together, so that less is padded: a random order is sorted by
        length within WINDOW batches, and the batches come in random order. Lengths are the Dataset's own `lengths`, or
        found by reading it once, a part of it in each rank: give it `lengths` where that takes long.
    **values
        What pads a leaf of that name, such as the number of a tokenizer's padding: `Pad(input_ids=3)`; else 0.
    """

    ignored: float = -100
    targets: Collection[str] = ()
    """Other leaves of whole numbers that only a loss takes, padded with `ignored`, too."""

    def __init__(self, ignored: float = -100, *, bucket: bool = True, **values: float) -> None:
        self.bucket, self.ignored = bucket, ignored
        self.values: dict[str, float] = {**dict.fromkeys(IGNORED_IN, ignored), **values}

    def __call__(self, samples: list[Any]) -> Any:
        """A batch of some samples."""
        return self._together(samples, "")

    def _together(self, values: list[Any], name: str) -> Any:
        import torch

        first = values[0]
        if isinstance(first, Mapping):
            return self._named(values)
        if isinstance(first, tuple) and not name:
            names = "xy" if len(first) == 2 else [str(i) for i in range(len(first))]
            parts = [
                self._together(list(part), key) for part, key in zip(zip(*values, strict=True), names, strict=True)
            ]
            return type(first)(*parts) if hasattr(first, "_fields") else tuple(parts)
        leaves = [_tensor(value) for value in values]
        if any(leaf is None for leaf in leaves):
            return values
        shapes = {tuple(leaf.shape[1:]) if leaf.dim() else None for leaf in leaves}
        if len(shapes) > 1:
            both = " and ".join(str(tuple(leaf.shape)) for leaf in leaves[:2])
            raise SpecError(
                f"data: samples have {name or 'values'} of shapes {both}: only the first axis can be padded; make them "
                "alike, or give collate=f(samples), such as lambda samples: tuple(zip(*samples)) for a model of lists"
            )
        if len({len(leaf) if leaf.dim() else 0 for leaf in leaves}) == 1:
            return torch.stack(leaves)
        if name in IGNORED_IN and leaves[0].is_floating_point():
            raise SpecError(
                f"data: {name} are numbers of unequal length, whose padding no loss leaves out; give "
                "collate=f(samples) that makes a mask, and loss=f(outputs, batch) that uses it"
            )
        return torch.nn.utils.rnn.pad_sequence(leaves, batch_first=True, padding_value=self._value(name, leaves[0]))

    def _value(self, name: str, leaf: Tensor) -> float:
        """What pads a leaf."""
        if name in self.targets and name not in self.values and not leaf.is_floating_point():
            return self.ignored
        return self.values.get(name, 0)

    def _named(self, values: list[Any]) -> dict[str, Any]:
        import torch

        keys = list(values[0])
        for value in values:
            if list(value) != keys and set(value) != set(keys):
                raise SpecError(
                    f"data: a sample is {described(values[0])} and another {described(value)}; make them alike"
                )
        batch = {str(key): self._together([value[key] for value in values], str(key)) for key in keys}
        if MASK not in batch and TEXTS in batch:
            lengths = torch.tensor([len(value[TEXTS]) for value in values])
            batch[MASK] = (torch.arange(int(lengths.max())) < lengths[:, None]).long()
        return batch


def lengths(
    samples: Any,
    measured: Tensor | None = None,
    part: int = 0,
    parts: int = 1,
    total: Callable[[Tensor], Tensor] = lambda values: values,
) -> Tensor:
    """
    The length of each sample, (N,): the Dataset's own `lengths`, or of the longest first axis of its leaves.

    It is read for the latter, where they were not `measured` before: each of `parts` reads its own, and `total` sums
    over them.
    """
    own = _own_lengths(samples)
    if own is None:
        return _read(samples, part, parts, total) if measured is None else measured
    return own


def _own_lengths(samples: Any) -> Tensor | None:
    """What a Dataset says of its samples, or of those that a Subset shows, of whatever Subset; None if it does not."""
    import torch

    if type(samples) is torch.utils.data.Subset:
        whole = _own_lengths(samples.dataset)
        return None if whole is None else whole[torch.as_tensor(samples.indices)]
    own = getattr(samples, "lengths", None)
    return None if own is None else torch.as_tensor(own)


def _read(samples: Any, part: int, parts: int, total: Callable[[Tensor], Tensor]) -> Tensor:
    """The length of each sample; of samples that are alike at a glance none other is read."""
    import torch

    n = len(samples)
    found = torch.zeros(n, dtype=torch.long)
    with kept():  # what is drawn here changes nothing of what the model draws
        seeded(0)
        seen = {long(samples[i]) for i in range(0, n, max(1, n // GLANCED))}
        if len(seen) == 1:
            return found + seen.pop()
        for begin in range(part * TURN, n, parts * TURN):
            seeded(begin)  # whatever the number of parts, samples draw the same
            for i in range(begin, min(begin + TURN, n)):
                found[i] = long(samples[i])
    return total(found)


def long(sample: Any) -> int:
    """How long a sample is: the longest first axis of its leaves."""
    parts = sample.values() if isinstance(sample, Mapping) else sample if isinstance(sample, tuple) else [sample]
    leaves = (_tensor(part) for part in parts)
    return max((len(leaf) for leaf in leaves if leaf is not None and leaf.dim()), default=0)


def bucketed(order: Tensor, lengths: Tensor, batch: int, generator: torch.Generator) -> Tensor:
    """
    An order of samples (N,) in which batches hold alike lengths; the last batch, which may be short, stays last.

    `lengths` (N,) are those of samples by index; the generator draws in which order batches come.
    """
    import torch

    windows = [window[lengths[window].argsort(stable=True)] for window in order.split(WINDOW * batch)]
    batches = list(torch.cat(windows).split(batch))
    places = torch.randperm(len(batches) - 1, generator=generator).tolist()
    return torch.cat([*(batches[place] for place in places), batches[-1]])


def _tensor(value: Any) -> Any:
    """A leaf as a tensor; None of text and the like."""
    import numpy as np
    import torch

    if isinstance(value, torch.Tensor):
        return value.detach()
    if isinstance(value, (bool, int, float, np.ndarray, np.generic)) or (
        isinstance(value, list) and value and all(isinstance(item, (bool, int, float)) for item in value)
    ):
        leaf = torch.as_tensor(value)
        return leaf.float() if leaf.dtype == torch.float64 else leaf
    return None


def collated(collate: Collate, samples: list[Any]) -> Any:
    """
    A batch of some samples: dicts are plain, and a list of parts is a tuple.

    Raises
    ------
    SpecError
        If it holds no tensor.
    """
    batch = over(lambda leaf: leaf, collate(samples))
    if not tensors(batch):
        raise SpecError(f"collate gives {described(batch)}, which holds no tensor; a batch is any nest of them")
    return tuple(batch) if isinstance(batch, list) else batch
