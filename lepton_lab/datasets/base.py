"""What every data set becomes, and how it is split."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, Union

from ..values import FrozenDict

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from .collating import Collate


class Samples(Protocol):
    """A map-style data set: pairs (x, y) by index."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


Split: TypeAlias = Union["tuple[Tensor, Tensor]", Samples]
Sample: TypeAlias = tuple[tuple[int, ...], int, int]

HELD_OUT = 0.1
"""Fraction of the training samples that becomes the validation set where none is published."""


@dataclass
class Data:
    """
    Training, validation and test samples, and what a model must know of them.

    A split is a pair `(x, y)` of CPU tensors with as many rows in each, or a map-style `Dataset` of such pairs, or of
    whatever `collate` makes a batch of.
    """

    train: Split
    val: Split | None
    """None where there is nothing to validate on: a user's own data of fewer than ten training samples."""
    test: Split | None
    """None where a user's own data came without a test set."""
    shape: tuple[int, ...]
    """Shape of one sample as the model sees it, e.g. (1, 28, 28) = channels, height, width."""
    classes: list[str]
    """Name of each label 0, 1, ...; empty for regression."""
    mean: tuple[float, ...] = ()
    """Per channel, of x / 255; () = uint8 is only divided by 255, and any other x is used as it is."""
    std: tuple[float, ...] = ()
    """Per channel, like `mean`."""
    unit: int = 255
    """What `mean` and `std` count in: 255 of x in uint8; 1 where they are of floats, which are then scaled by them."""
    vocabulary: int = 0
    """
    Number of kinds of tokens where x are tokens, which are whole numbers below it and never scaled; else 0.
    Equal to len(classes) where each token is to be predicted from those before it: y (N, T) are then those after x.
    """
    tokens: str = ""
    """
    What a token is where x are text: "bytes" (of UTF-8), "characters", or pieces of words, as in `spelling.MARKS`.
    """
    pieces: list[str] = field(default_factory=list)
    """Of x that are tokens, what each is, by its number, where `classes` name labels; empty where that is not known."""
    reworded: tuple[dict[str, Any], ...] = ()
    """What is done to a text before it becomes tokens: transforms of texts, each as {name: options}."""
    tokenizer: str = ""
    """How text becomes such pieces, as JSON of the library `tokenizers`."""
    sample_rate: int = 0
    """
    Of x that are sounds, or pictures of their spectra, samples a second of the sounds; 0 where they are neither.
    A user's Dataset says it as its `sample_rate`.
    """
    collate: Collate | None = None
    """Makes a batch of a list of samples, where they are no pairs of one shape."""
    lengths: Tensor | None = None
    """Of each training sample, (N,), where they are padded and it is known."""
    task: str = ""
    """Name of the task that task='auto' is; "" where x and y tell."""
    remarks: tuple[str, ...] = ()
    """What a run tells of them once, such as files that were left out."""
    example: Any = None
    """A batch of two samples where batches are no pairs (x, y) of tensors: a nest, of which shape () tells nothing."""

    augmented: bool = False
    """Whether batches are changed in training, which may leave out targets of pixels that come from outside."""
    about: Mapping[str, Mapping[str, Sequence[Any]]] = FrozenDict()
    """What is known of samples by split and name, such as their speaker or date: a value for each, (N,)."""
    history: tuple[dict[str, Any], ...] = ()
    """What was done to them, in order: `transform`, `text`, and `samples` concerned, as (split, place) before it."""

    @property
    def sample(self) -> Sample:
        """What models are told: the shape of one sample, the number of classes, and kinds of tokens."""
        return self.shape, len(self.classes), self.vocabulary


def length(part: Any) -> int:
    """How many samples a split of Data holds; 0 for None."""
    if part is None:
        return 0
    return len(part[0]) if isinstance(part, tuple) else len(part)


def rows(split: Split, places: Iterable[int]) -> tuple[Tensor, Tensor]:
    """Samples (N, ...) and targets (N, ...) of a split of Data at some places, as the data set has them."""
    import torch

    if isinstance(split, tuple):
        index = torch.tensor([*places])
        return split[0][index], split[1][index]
    pairs = [split[place] for place in places]
    x, y = (torch.stack([torch.as_tensor(part) for part in parts]) for parts in zip(*pairs, strict=True))
    return x, y


def scaling(
    mean: tuple[float, ...], std: tuple[float, ...], dims: int, unit: int = 255
) -> tuple[Tensor | float, Tensor | float]:
    """
    Scale and shift with (x / unit - mean) / std = x * scale - shift, for pixels of so many dimensions a sample.

    Numbers where all channels are alike, else tensors by channel (C, 1, ...) in float32.
    """
    import torch

    if len(set(mean)) < 2 and len(set(std)) < 2:
        center, spread = (mean[0], std[0]) if mean else (0.0, 1.0)
        return 1 / (unit * spread), center / spread
    centers, spreads = (torch.tensor(v, dtype=torch.float64).view(-1, *[1] * (dims - 1)) for v in (mean, std))
    return (1 / (unit * spreads)).float(), (centers / spreads).float()


def holds(
    shape: tuple[int, ...],
    classes: int,
    vocabulary: int = 0,
    *,
    tasks: tuple[str, ...] = (),
    made: bool = False,
    kind: str = "",
    samples: int = 0,
    licence: str = "",
) -> Callable[[Any], Any]:
    """
    Say of a data set, as its attributes, what is known of it before anything is read or downloaded.

    `sample` is what models are told of it. The numbers are those without options; where an option changes one, models
    that fit one number fit the other. `tasks` are the names of those that it is for, first the one that task='auto' is;
    () where the sample tells. `made` is True of what is made up from the seed, and its docstring begins with "Made:".
    `kind` is that of the samples where their shape does not tell, such as "sound". For lists: `samples` in all splits,
    0 where options tell; `licence` of what has no row in SOURCES and is not made here.
    """

    def mark(dataset: Any) -> Any:
        dataset.sample, dataset.tasks, dataset.made = (shape, classes, vocabulary), tasks, made
        dataset.kind, dataset.samples, dataset.licence = kind, samples, licence
        return dataset

    return mark


def shuffled(count: int, seed: int, *fractions: float) -> list[Tensor]:
    """
    Indices 0 .. count-1 dealt out at random: one part for each fraction, preceded by one of all the rest.

    Each part is in ascending order: order within a split means nothing, and reading forwards is faster.
    """
    import torch

    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    sizes = [int(count * fraction) for fraction in fractions]
    return [part.sort().values for part in order.split([count - sum(sizes), *sizes])]


def take(x: np.ndarray, y: np.ndarray, index: Tensor) -> tuple[Tensor, Tensor]:
    """Rows `index` of images (or features) and of labels, copied; labels become int64."""
    import torch

    rows = index.numpy()
    return torch.from_numpy(x[rows]), torch.from_numpy(y[rows].astype("int64"))


def images(
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    seed: int,
    classes: list[str],
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> Data:
    """Data from published training and test images, uint8 (N, C, H, W), with validation cut from training."""
    import torch

    rest, held = shuffled(len(train[0]), seed, HELD_OUT)
    parts = take(*train, rest), take(*train, held), take(*test, torch.arange(len(test[0])))
    return Data(*parts, shape=train[0].shape[1:], classes=classes, mean=mean, std=std)
