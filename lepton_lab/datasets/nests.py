"""A user's samples that are no pairs of one shape: nests, and pairs of unequal length; a collate puts them together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import SpecError
from .base import HELD_OUT, Data, Split, length, shuffled
from .collating import Collate, collated
from .streams import Stream
from .surveying import named, of_collated

GLANCED = 8  # samples by which it is seen whether shapes differ, since each may take long to read


def paired(split: Split) -> bool:
    """Whether samples are to be pairs of tensors or numbers, of one shape as far as a glance tells."""
    import numpy as np

    if isinstance(split, tuple):
        return True
    first = split[0]
    if not isinstance(first, (Mapping, tuple, list)):
        return True  # and refused as such
    if isinstance(first, Mapping) or len(first) != 2 or any(isinstance(part, (Mapping, tuple, list)) for part in first):
        return False
    samples = (split[place] for place in range(min(GLANCED, length(split))))
    shapes = {tuple(np.shape(part) for part in sample) for sample in samples}
    tails = {tuple(shape[1:] for shape in pair) for pair in shapes}
    return len(shapes) == 1 or len(tails) > 1


def nested(splits: dict[str, Split], train: Any, seed: int, ignored: int, collate: Collate) -> Data:
    """Data of samples that are put together by a collate: pairs of unequal length, or nests."""
    first = {name: _two(split, collate, f"data: {name}") for name, split in splits.items()}
    example = first["train"]
    kept, val = splits["train"], splits.get("val")
    if val is None:
        kept, val = hold_out(kept, seed)
    test, names = splits.get("test"), named(train)
    if not _is_tensors(example):
        return Data(kept, val, test, (), names or [], collate=collate, example=example)
    if names is not None and (example[0].is_floating_point() or example[0].dim() != 2):
        return Data(kept, val, test, tuple(example[0].shape[1:]), names, collate=collate)
    shape, labels, vocabulary, lengths = of_collated(splits, collate, ignored)
    if names is None:
        names = [str(label) for label in range(labels)]
    if vocabulary and names and example[0].shape == example[1].shape:
        names += [str(token) for token in range(len(names), vocabulary)]
        vocabulary = len(names)
    data = Data(kept, val, test, shape, names, vocabulary=vocabulary, collate=collate)
    if lengths is not None:
        data.lengths = lengths[kept.indices] if val is not splits.get("val") else lengths  # type: ignore[union-attr]
    return data


def _two(split: Any, collate: Collate, name: str) -> Any:
    """A batch of the first two samples, or of the only one."""
    try:
        return collated(collate, [split[i] for i in range(min(2, length(split)))])
    except SpecError:
        raise
    except Exception as error:
        why = " ".join(str(error).split())
        raise SpecError(
            f"{name}: the first samples can't be made a batch ({type(error).__name__}: {why}); give collate=f(samples)"
        ) from error


def _is_tensors(batch: Any) -> bool:
    """Whether a batch is a pair (x, y) of tensors."""
    import torch

    return isinstance(batch, tuple) and len(batch) == 2 and all(isinstance(part, torch.Tensor) for part in batch)


def hold_out(train: Split, seed: int) -> tuple[Split, Split | None]:
    """Training samples, and a tenth of them for validation; None of few, and of a stream, which can't be dealt out."""
    from torch.utils.data import Subset

    rest, held = shuffled(length(train), seed, HELD_OUT)
    if not len(held) or isinstance(train, Stream):
        return train, None
    if isinstance(train, tuple):
        x, y = train
        return (x.index_select(0, rest), y.index_select(0, rest)), (x.index_select(0, held), y.index_select(0, held))
    split: Any = train
    return Subset(split, rest.tolist()), Subset(split, held.tolist())
