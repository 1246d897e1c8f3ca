"""A user's own data, as `lab.launch(data=...)` takes it, made into `Data`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..answers import labels
from ..errors import SpecError
from .base import HELD_OUT, Data, Split, length, shuffled
from .collating import Collate, Pad
from .nests import hold_out, nested, paired
from .streams import streamed
from .surveying import LABELS, of_pairs, own
from .values import finite, numbers, plain

if TYPE_CHECKING:
    from torch import Tensor

NAMES = {1: ("train",), 2: ("train", "test"), 3: ("train", "val", "test")}
TENSOR = "make it a tensor (for images: transform=ToTensor())"
FORMS = (
    "give (train, test), (train, val, test) or train alone, each a map-style Dataset, an IterableDataset, a list of "
    "samples or a pair (x, y) of arrays"
)


def from_user(
    data: Any,
    seed: int,
    ignored: int = -100,
    collate: Collate | None = None,
    pads: Mapping[str, float] | None = None,
    targets: tuple[str, ...] = (),
) -> Data:
    """
    Data from what a user has: tensors, NumPy arrays, map-style Datasets or streams.

    Parameters
    ----------
    data
        `(train, test)`, `(train, val, test)` or `train` alone. Each is a map-style Dataset or a list of samples (x, y),
        or a pair (x, y) of tensors or arrays with one row a sample. x of any float type becomes float32, and in
        training what the model's weights are; uint8 x is divided by 255 in training, pictures in uint16 by 65,535;
        other rows of integers in x are tokens; any other x is used as it is, and so are uint8 of dicts and longer
        tuples. Integer y are labels, one a sample, or one a token: then y are tokens too. Float y are targets of a
        regression (as float32).
    seed
        Seed of the validation set, a tenth of the training samples, where none is given; fewer than ten are all kept
        for training.
    ignored
        The label that the loss leaves out, and so no class.
    collate
        Makes a batch of a list of samples; `Pad` where there is none, and samples are no pairs of one shape.
    pads
        What `Pad` is to pad with, by name.
    targets
        Names of leaves that only the loss takes, of which it leaves `ignored` out.

    Returns
    -------
    Data
        A TensorDataset, or a Subset of one, comes as its pair of tensors; other Datasets come as they are. `classes`
        are the Dataset's own `classes`, else "0", "1", ... up to the largest label; `test` is None if none was given.
        `about` is what Datasets know of their samples: an attribute of that name, a dict of lists, a value a sample.

    Raises
    ------
    SpecError
        If a part is empty, can't be indexed, is no pair, does not fit the other parts, or holds what can't be trained
        on, such as NaN, complex numbers or text.
    """
    parts = _parts(data)
    splits = {name: _split(part, f"data: {name}") for name, part in parts.items()}
    made = _made(parts, splits, seed, ignored, collate, pads, targets)
    known = {name: about for name, part in parts.items() if (about := about_of(part, f"data: {name}"))}
    if "train" in known and "val" not in parts and made.val is not None:
        rest, held = shuffled(length(splits["train"]), seed, HELD_OUT)  # as `hold_out` dealt them
        train = known["train"]
        known |= {name: chosen(train, places.tolist()) for name, places in (("train", rest), ("val", held))}
    made.about = known
    return made


def about_of(part: Any, name: str) -> dict[str, list[Any]]:
    """What a Dataset knows of each sample, by name, as its attribute `about`; of a Subset that of its own samples."""
    if not hasattr(part, "about") and hasattr(part, "dataset") and hasattr(part, "indices"):
        return chosen(about_of(part.dataset, name), [*part.indices])
    about = getattr(part, "about", None) or {}
    if not isinstance(about, Mapping) or not all(hasattr(v, "__len__") and len(v) == len(part) for v in about.values()):
        raise SpecError(f"{name} has an attribute `about` that is no dict of lists, each with a value a sample")
    return {str(key): [*values] for key, values in about.items()}


def chosen(about: Mapping[str, Sequence[Any]], places: Sequence[int]) -> dict[str, list[Any]]:
    """What is known of some samples, by their places."""
    return {name: [values[place] for place in places] for name, values in about.items()}


def _made(
    parts: dict[str, Any],
    splits: dict[str, Split],
    seed: int,
    ignored: int,
    collate: Collate | None,
    pads: Mapping[str, float] | None,
    targets: tuple[str, ...],
) -> Data:
    """Data of splits in the form that their samples have."""
    if collate is not None or not all(paired(split) for split in splits.values()):
        if collate is None:
            collate = Pad(ignored, bucket=True, **(pads or {}))
            collate.targets = targets
        splits = {name: _samples(split) for name, split in splits.items()}
        data = nested(splits, parts["train"], seed, ignored, collate)
        data.sample_rate = _rate(parts["train"])
        return data
    shapes = {name: _shape(split, f"data: {name}") for name, split in splits.items()}
    for name, shape in shapes.items():
        if shape != shapes["train"]:
            raise SpecError(f"data: {name} has samples of shape {shape}, train of {shapes['train']}; make them alike")
    classes, vocabulary = of_pairs(splits, parts["train"], shapes["train"], ignored)
    if vocabulary and classes and _next(splits["train"]):
        classes += [str(token) for token in range(len(classes), vocabulary)]
        vocabulary = len(classes)
    train, val = splits["train"], splits.get("val")
    if val is None:
        train, val = hold_out(train, seed)
    rate = _rate(parts["train"])
    return Data(train, val, splits.get("test"), shapes["train"], classes, vocabulary=vocabulary, sample_rate=rate)


def _rate(train: Any) -> int:
    """Samples a second of sounds, as the Dataset itself says it; 0 where it does not."""
    rate = own(train, "sample_rate")
    return rate if isinstance(rate, int) and rate > 0 else 0


def _parts(data: Any) -> dict[str, Any]:
    """The named parts of what was given; a tuple of two arrays is one part, not two."""
    whole = _is_pair(data) or _are_samples(data)
    parts = list(data) if isinstance(data, (tuple, list)) and not whole else [data]
    if len(parts) not in NAMES:
        raise SpecError(f"data: a {type(data).__name__} of {len(parts)} is no known form; {FORMS}")
    return dict(zip(NAMES[len(parts)], parts, strict=True))


def _are_samples(data: Any) -> bool:
    """Whether it is a list of samples, of train alone; up to three pairs of arrays of many rows are parts."""
    if not isinstance(data, list) or not data or not all(isinstance(item, (tuple, Mapping)) for item in data):
        return False
    return len(data) not in NAMES or not all(_is_pair(item) and _rows(item) for item in data)


def _rows(pair: Any) -> bool:
    """Whether x and y have as many rows, as those of a part do."""
    return len({tuple(array.shape[:1]) for array in pair}) == 1 and len(pair[0].shape) > 0


def _is_pair(part: Any) -> bool:
    return isinstance(part, (tuple, list)) and len(part) == 2 and all(hasattr(type(a), "shape") for a in part)


def _split(part: Any, name: str) -> Split:
    from torch.utils.data import DataLoader, IterableDataset

    if isinstance(part, DataLoader):
        raise SpecError(f"{name} is a DataLoader, which ranks can't share; give its .dataset")
    if isinstance(part, IterableDataset):
        part = streamed(part, name)
    if _is_pair(part):
        return _tensors(part, name)
    if not hasattr(part, "__getitem__") or not hasattr(part, "__len__") or isinstance(part, (tuple, dict, str)):
        raise SpecError(f"{name} is a {type(part).__name__}; {FORMS}")
    try:
        count = len(part)
    except TypeError as error:
        raise SpecError(f"{name} has no length that len() can tell ({error}); its __len__ must give a number") from None
    if count == 0:
        raise SpecError(f"{name} is empty; it needs at least one sample")
    pair = _pair_of(part)
    return _tensors(pair, name) if pair else part


def _samples(split: Split) -> Split:
    """A split of which a collate makes batches: samples, also of a pair of tensors."""
    from torch.utils.data import TensorDataset

    return TensorDataset(*split) if isinstance(split, tuple) else split


def _pair_of(dataset: Any) -> tuple[Tensor, Tensor] | None:
    """The pair of tensors that a Dataset is known to hold, for then batches need no loop over samples."""
    from torch.utils.data import Subset, TensorDataset

    if type(dataset) is TensorDataset and len(dataset.tensors) == 2:
        return dataset.tensors[0], dataset.tensors[1]
    if type(dataset) is Subset:
        whole, index = _pair_of(dataset.dataset), list(dataset.indices)
        return (whole[0][index], whole[1][index]) if whole else None
    return None


def _tensors(pair: Any, name: str) -> tuple[Tensor, Tensor]:
    """A pair as CPU tensors: x (N, ...) and y (N, ...), float64 as float32, integer y as int64."""
    x, y = _tensor(pair[0], f"{name} x"), _tensor(pair[1], f"{name} y")
    if len(x) != len(y):
        raise SpecError(f"{name} has {len(x)} samples in x and {len(y)} in y; they must be as many")
    if len(x) == 0:
        raise SpecError(f"{name} is empty; it needs at least one sample")
    x, y = numbers(x, f"{name} x"), labels(y)
    finite(x, f"{name} x")
    finite(y, f"{name} y")
    return x, y


def _tensor(values: Any, name: str) -> Tensor:
    import numpy as np
    import torch

    if not isinstance(values, torch.Tensor):
        array = np.asarray(values)
        try:
            # torch takes neither reversed nor foreign-endian arrays, and warns of read-only ones
            array = np.require(array, array.dtype.newbyteorder("="), ["C", "W"])
            values = torch.from_numpy(array)
        except (TypeError, ValueError):
            raise SpecError(f"{name} is an array of {array.dtype}; numbers are needed") from None
    plain(values, name)
    if values.ndim == 0:
        raise SpecError(f"{name} is a single number; it needs one row a sample")
    values = values.detach().cpu()
    # A view would be shipped with all that it is a view of.
    return values.clone() if values.untyped_storage().nbytes() > values.nbytes else values


def _sample(split: Any, name: str) -> tuple[Any, Any]:
    """The first sample of a Dataset."""
    sample = split[0]
    try:
        x, y = sample
    except (TypeError, ValueError):
        raise SpecError(f"{name}[0] is a {type(sample).__name__}, not a pair (x, y); {FORMS}") from None
    return x, y


def _shape(split: Split, name: str) -> tuple[int, ...]:
    """Shape of one sample's x."""
    import numpy as np
    import torch

    if isinstance(split, tuple):
        return tuple(split[0].shape[1:])
    x, y = _sample(split, name)
    for value, part in ((x, "x"), (y, "y")):
        if isinstance(value, torch.Tensor):
            plain(value, f"{name}[0]'s {part}")
        elif not isinstance(value, (np.ndarray, np.generic, int, float)):
            remedy = LABELS if isinstance(value, str) and part == "y" else TENSOR
            raise SpecError(f"{name}[0] has a {type(value).__name__} as {part}; {remedy}")
        elif np.asarray(value).dtype.kind not in "iufb":
            raise SpecError(f"{name}[0] has {np.asarray(value).dtype} as {part}; numbers are needed")
    numbers(torch.as_tensor(x)[None], f"{name}[0]'s x")
    return tuple(np.shape(x))


def _next(split: Split) -> bool:
    """Whether each sample's y has x's shape: the tokens after its own."""
    import numpy as np

    x, y = (part[0] for part in split) if isinstance(split, tuple) else split[0]
    return np.shape(x) == np.shape(y)


def usual(data: Data) -> None:
    """
    Refuse, with a SpecError, targets that none of the usual losses takes.

    They are several labels a sample, all 0 or 1, that go with neither tokens nor steps of x.
    """
    if not isinstance(data.train, tuple) or not data.classes:
        return
    y = data.train[1]
    if y.ndim == 2 and y.shape[1:] != data.shape[:1] and len(data.classes) <= 2:
        raise SpecError(
            f"data: train y are rows of {y.shape[1]} zeros and ones: give y.argmax(1) where each sample has one label, "
            "or y.float() and loss=nn.BCEWithLogitsLoss() where it has several"
        )
