"""
Parts of a split of Data: some of its samples, other labels for them, and what tells samples apart.

Legend of the shape comments: N samples of a split, M of these that are picked.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import SpecError

if TYPE_CHECKING:
    import numpy as np

    from ..datasets import Data, Split

DIGEST = 8  # bytes of a sample's digest: of a million samples two are the same by chance once in 37 million sets


class Picked:
    """
    Some samples of a Dataset, in an order of their own, and with labels of their own where these are given.

    Parameters
    ----------
    dataset
        Map-style; of pairs (x, y) where there are labels.
    places
        Of its samples, (M,).
    labels
        Of these, (M,); those of the dataset if not given.
    """

    def __init__(self, dataset: Any, places: Sequence[int], labels: Sequence[int] | None = None) -> None:
        self.dataset, self.places, self.labels = dataset, [int(place) for place in places], labels

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Any:
        sample = self.dataset[self.places[index]]
        if self.labels is None:
            return sample
        x, _ = sample
        return x, int(self.labels[index])


def length(split: Split) -> int:
    """How many samples a split holds."""
    return len(split[0]) if isinstance(split, tuple) else len(split)


def parts(data: Data) -> dict[str, Split]:
    """The splits that there are, by name; a stream is a SpecError, since it can't be looked through."""
    there = {name: getattr(data, name) for name in ("train", "val", "test")}
    splits = {name: split for name, split in there.items() if split is not None and length(split)}
    if any(getattr(split, "forwards", False) for split in splits.values()):
        raise SpecError("data: a stream is read forwards and can't be looked through; give a map-style Dataset")
    return splits


def picked(split: Split, places: Any) -> Split:
    """Samples of a split by their places (M,), in that order."""
    import torch

    if isinstance(split, tuple):
        index = torch.as_tensor(places, dtype=torch.long)
        return split[0][index], split[1][index]
    return Picked(split, places)


def keep(data: Data, **places: Any) -> Data:
    """Data with some samples of each split that is named, by their places; with all that is known of each sample."""
    import torch

    splits: dict[str, Any] = {name: picked(getattr(data, name), index) for name, index in places.items()}
    about = {**data.about, **{name: _chosen(data.about[name], places[name]) for name in places if name in data.about}}
    lengths = data.lengths
    if lengths is not None and "train" in places:
        lengths = lengths[torch.as_tensor(places["train"], dtype=torch.long)]
    return dataclasses.replace(data, **splits, about=about, lengths=lengths)


def _chosen(about: Mapping[str, Sequence[Any]], places: Any) -> dict[str, list[Any]]:
    return {name: [values[int(place)] for place in places] for name, values in about.items()}


def joined(data: Data) -> Data:
    """Data whose training set has the samples of all splits, in the order training, validation, test."""
    import torch
    from torch.utils.data import ConcatDataset, TensorDataset

    splits = parts(data)
    if all(isinstance(split, tuple) for split in splits.values()):
        whole: Any = tuple(torch.cat([split[i] for split in splits.values()]) for i in (0, 1))
    else:
        several: list[Any] = [TensorDataset(*s) if isinstance(s, tuple) else s for s in splits.values()]
        whole = ConcatDataset(several)
    known = [data.about.get(split, {}) for split in splits]
    names = [name for name in known[0] if all(name in each for each in known)]
    about = {name: [value for each in known for value in each[name]] for name in names}
    return dataclasses.replace(
        data, train=whole, val=None, test=None, about={"train": about} if about else {}, lengths=None
    )


def told(data: Data, name: str, text: str, samples: Sequence[tuple[str, int]]) -> Data:
    """Data that remember what a transform did to them: its name, a sentence, and samples as they were before it."""
    row = {"transform": name, "text": text, "samples": [*samples]}
    return dataclasses.replace(data, history=(*data.history, row))


def relabelled(split: Split, labels: Any) -> Split:
    """A split of pairs with other labels, (N,)."""
    import torch

    if isinstance(split, tuple):
        return split[0], torch.as_tensor(labels, dtype=split[1].dtype)
    return Picked(split, range(length(split)), [int(label) for label in labels])


def labels_of(split: Split) -> np.ndarray | None:
    """The one label of each sample, (N,), int64; None where samples have none, or more than one."""
    import numpy as np

    if isinstance(split, tuple):
        y = split[1].numpy()
    else:
        # As torchvision's have them: before what `target_transform` makes of them.
        known = None if getattr(split, "target_transform", None) else getattr(split, "targets", None)
        try:
            y = np.asarray([split[i][1] for i in range(len(split))] if known is None else known)
        except (KeyError, IndexError, TypeError, ValueError):  # samples that are no pairs, or labels of unequal length
            return None
    whole = y.ndim == 1 and y.dtype.kind in "iub" and len(y) == length(split)
    return y.astype(np.int64) if whole else None


def digests(split: Split) -> list[str]:
    """
    What tells samples apart by what is in them, without their labels: 16 hexadecimal digits each (BLAKE2b).

    They don't depend on the order of samples, nor on which split they are dealt to. Of samples that are no pairs all
    of it counts.
    """
    if isinstance(split, tuple):
        arrays = split[0].contiguous().numpy()
        head = f"{arrays.dtype}{arrays.shape[1:]}".encode()
        return [_digest(head, memoryview(row).cast("B")) for row in arrays.reshape(len(arrays), -1)]
    samples = (split[i] for i in range(len(split)))
    return [_digest(*_bytes(s[0] if isinstance(s, tuple) and len(s) == 2 else s)) for s in samples]


def digest(data: Data) -> str:
    """SHA-256 of a whole data set: of all its samples and labels, however they are dealt to splits."""
    lines: list[str] = []
    for split in parts(data).values():
        labels = labels_of(split)
        names = [None] * length(split) if labels is None else labels.tolist()
        lines += [f"{name}:{label}" for name, label in zip(digests(split), names, strict=True)]
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def _digest(*pieces: Any) -> str:
    whole = hashlib.blake2b(digest_size=DIGEST)
    for piece in pieces:
        whole.update(piece)
    return whole.hexdigest()


def _bytes(value: Any) -> list[bytes]:
    """A nest of tensors, arrays, numbers and text as bytes."""
    import numpy as np

    if isinstance(value, Mapping):
        return [piece for name in sorted(value) for piece in (str(name).encode(), *_bytes(value[name]))]
    if isinstance(value, (list, tuple)):
        return [piece for item in value for piece in _bytes(item)]
    if isinstance(value, (str, bytes)):
        return [value.encode() if isinstance(value, str) else value]
    array = np.ascontiguousarray(np.asarray(value))
    return [f"{array.dtype}{array.shape}".encode(), array.tobytes()]
