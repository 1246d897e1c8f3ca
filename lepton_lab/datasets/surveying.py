"""What the samples of a user's data tell: label names, kinds of tokens, shapes, lengths. Each is read once at most."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..errors import SpecError
from .base import Split, length
from .collating import Collate, Pad, collated, long
from .generators import kept
from .streams import Stream

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

LABELS = "number the labels 0, 1, ..., and keep their names in the Dataset's `classes`"
NUMBERS = "iufb"  # kinds of NumPy's types
READ = 64  # samples that are read together


def own(dataset: Any, name: str) -> Any:
    """An attribute of a Dataset, or of the one that a Subset shows a part of."""
    value = getattr(dataset, name, None)
    return own(dataset.dataset, name) if value is None and hasattr(dataset, "dataset") else value


def named(dataset: Any) -> list[str] | None:
    """The label names that a Dataset gives itself."""
    names = own(dataset, "classes")
    return [str(name) for name in names] if isinstance(names, (list, tuple)) else None


def together(split: Any) -> Iterator[list[Any]]:
    """All samples of a Dataset, in its order, some at a time."""
    count = length(split)
    for begin in range(0, count, READ):
        places = [*range(begin, min(begin + READ, count))]
        with kept():
            samples = split.read([places])[0] if isinstance(split, Stream) else [split[place] for place in places]
        yield samples


def of_pairs(splits: dict[str, Split], train: Any, shape: tuple[int, ...], ignored: int) -> tuple[list[str], int]:
    """
    Label names, and how many kinds of tokens x are, of pairs of one shape.

    Names are the Dataset's own, else numbers up to the largest label, and none of a regression. Tokens are rows of
    whole numbers from 0 up, but for uint8, which are pixels; 0 where there are none.
    """
    names = named(train)
    tokens, labels = len(shape) == 1 and 0 not in shape, names is None
    count, kinds = 0, 0
    for name, split in splits.items():
        largest, y = _glanced(split, f"data: {name}", tokens, labels)
        tokens = tokens and largest >= 0
        kinds = max(kinds, largest + 1)
        if y is not None:
            labels = y.dtype.kind != "f"
            count = max(count, _count(y[y != ignored], f"data: {name}") if labels else 0)
    if labels and not count:
        raise SpecError(f"data: all labels are {ignored}, which the loss leaves out; give some that count")
    numbers = [str(label) for label in range(count)] if labels else []
    return numbers if names is None else names, kinds if tokens else 0


def _count(y: np.ndarray, name: str) -> int:
    if not y.size:
        return 0
    if y.min() < 0:
        raise SpecError(f"{name} has the label {y.min()}; labels are integers from 0 up")
    return int(y.max()) + 1


def _glanced(split: Split, name: str, tokens: bool, labels: bool) -> tuple[int, np.ndarray | None]:
    """The largest token, -1 of x that are none, and the labels, of which a part is asked for."""
    if isinstance(split, tuple):
        return _largest(split[0]) if tokens else -1, split[1].numpy() if labels else None
    y = _known(split, name) if labels else None
    reads, largest, answers = labels and y is None, 0, []
    tokens = tokens and _largest(_first(split)) >= 0
    if not tokens and not reads:
        return -1, y
    for samples in together(split):
        answers += [sample[1] for sample in samples] if reads else []
        for x in (sample[0] for sample in samples if tokens):
            token = _largest(x)
            tokens, largest = token >= 0, max(largest, token)
        if not tokens and not reads:
            break
    return largest if tokens else -1, _answers(answers, name) if reads else y


def _first(split: Any) -> Any:
    return split[0][0]


def _largest(x: Any) -> int:
    """The largest of some whole numbers from 0 up; -1 of others, and of pixels."""
    import torch

    x = torch.as_tensor(x)
    if x.is_floating_point() or x.dtype in (torch.uint8, torch.bool):
        return -1
    low, high = x.aminmax()
    return int(high) if low >= 0 else -1


def _known(split: Any, name: str) -> np.ndarray | None:
    """The labels that a Dataset has as `targets`; of a regression one sample's targets, whose others tell no more."""
    targets = getattr(split, "targets", None)
    if targets is not None and (known := _array(targets, name)).dtype.kind in NUMBERS:
        return known
    first = _array(split[0][1], name)
    return first if first.dtype.kind == "f" else None


def _answers(values: list[Any], name: str) -> np.ndarray:
    y = _array(values, name)
    if y.dtype.kind not in NUMBERS:
        raise SpecError(f"{name} has {y.dtype} as y; {LABELS}")
    return y


def _array(values: Any, name: str) -> np.ndarray:
    import numpy as np

    try:
        return np.asarray(values)
    except ValueError:
        raise SpecError(f"{name} has targets of different shapes; those of a batch must be alike: pad them") from None


def of_collated(
    splits: dict[str, Split], collate: Collate, ignored: int
) -> tuple[tuple[int, ...], int, int, Tensor | None]:
    """
    What pairs that a collate makes tell: the largest shape of an x, the number of labels, and kinds of tokens.

    The last is the length of each training sample, (N,), where they are padded.
    """
    import torch

    shape: tuple[int, ...] = ()
    most = {"x": -1, "y": -1}
    lengths: list[int] = []
    for name, split in splits.items():
        for samples in together(split):
            if name == "train" and isinstance(collate, Pad) and not isinstance(split, Stream):
                lengths += [long(sample) for sample in samples]
            x, y = collated(collate, samples)
            shape = tuple(map(max, x.shape[1:], shape or x.shape[1:]))
            tokens = x.dim() == 2 and not x.is_floating_point() and x.dtype.itemsize > 1
            most["x"] = max(most["x"], int(x.max())) if tokens else -1
            counted = y[y != ignored]
            whole = not y.is_floating_point() and counted.numel()
            most["y"] = max(most["y"], int(counted.max())) if whole else most["y"]
    return shape, most["y"] + 1, most["x"] + 1, torch.tensor(lengths) if lengths else None
