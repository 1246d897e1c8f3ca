"""
Samples dealt anew to training, validation and test set: by class, by group, by time; and folds of a cross validation.

Legend of the shape comments: N samples.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from ..errors import SpecError, nearest
from .base import once
from .picking import joined, keep, labels_of, length, parts, told

if TYPE_CHECKING:
    import numpy as np

    from ..datasets import Data

Share = Annotated[float, Field(gt=0, lt=1)]


@once(deals=True)
def split(
    data: Data,
    seed: int,
    *,
    by: Literal["class", "group", "time", "chance"] = "class",
    of: str = "",
    val: Share = 0.1,
    test: Share = 0.1,
) -> Data:
    """
    Put all samples together and deal them anew to training, validation and test set.

    What a data set knows of its samples, such as their speaker, it has as `about`, by name. An opener takes it of a
    column or of files' names; a Dataset of your own has an attribute `about`, a dict of lists with a value a sample.

    Parameters
    ----------
    data, seed
        The seed draws who goes where, but not by time.
    by
        "class": each split has as much of each class; "group": all samples of a group go to one split, so that a
        speaker or patient that is measured on was never trained on; "time": the last samples are for testing, those
        before for validation; "chance": by chance.
    of
        The name in `about` that tells groups or times apart, such as "speaker"; "" takes the only one. For times alone:
        without any the order of the samples is that of time.
    val, test
        Fractions of the samples, of groups as near as whole ones come; above 0, and below 1 together.

    Raises
    ------
    SpecError
        If a split would be empty, or what tells the samples apart is not known.
    """
    import numpy as np

    if val + test >= 1:
        raise SpecError(f"transforms='split': val={val:g} and test={test:g} leaves no training samples; take less")
    whole = joined(data)
    draw = np.random.default_rng(seed)
    n = length(whole.train)
    units = UNITS[by](whole, of, draw)  # (N,): samples with one number go together, the lowest to the test set
    places = _cut(units, n, {"test": test, "val": val})
    for name, index in places.items():
        if not len(index):
            raise SpecError(_empty(name, by, of, len(set(units.tolist()))))
    made = {name: keep(whole, train=index) for name, index in places.items()}
    splits: dict[str, Any] = {name: part.train for name, part in made.items()}
    about = {name: part.about["train"] for name, part in made.items() if part.about}
    sizes = ", ".join(f"{name} {len(index):,}" for name, index in places.items())
    text = f"samples dealt anew by {by}{f' of {of}' * bool(of)}: {sizes}"
    return told(dataclasses.replace(made["train"], **splits, about=about), "split", text, [])


@once(deals=True)
def fold(
    data: Data,
    seed: int,
    *,
    number: Annotated[int, Field(ge=0, le=99)] = 0,
    folds: Annotated[int, Field(ge=2, le=100)] = 3,
) -> Data:
    """
    Hold one fold of the training samples out as the test set, as a cross validation does in turn.

    Each fold has as much of each class, and all folds together are the training set. The validation set stays.

    Parameters
    ----------
    data, seed
        The seed deals the samples to folds.
    number
        Of the fold, from 0.
    folds
        How many there are, 2 or more.

    Raises
    ------
    SpecError
        If there is no fold of this number, or there are more folds than samples.
    """
    import numpy as np

    n = length(parts(data)["train"])
    if number >= folds or folds > n:
        raise SpecError(f"transforms='fold': number={number} of folds={folds} is none of {n} training samples")
    members = fold_of(data, seed, folds)
    held, rest = np.flatnonzero(members == number), np.flatnonzero(members != number)
    test = keep(data, train=held)
    made = keep(data, train=rest)
    about = {name: known for name, known in made.about.items() if name != "test"}
    about |= {"test": test.about["train"]} if "train" in test.about else {}
    text = f"fold {number} of {folds}: {len(held):,} training samples held out as the test set"
    return told(dataclasses.replace(made, test=test.train, about=about), "fold", text, [])


def fold_of(data: Data, seed: int, folds: int) -> np.ndarray:
    """The fold of each training sample, (N,), dealt class by class."""
    import numpy as np

    n = length(data.train)
    labels = labels_of(data.train) if data.classes else None
    order = np.random.default_rng(seed).permutation(n)
    if labels is not None:
        order = order[np.argsort(labels[order], kind="stable")]
    members = np.empty(n, np.int64)
    members[order] = np.arange(n) % folds
    return members


def _cut(units: np.ndarray, n: int, shares: dict[str, float]) -> dict[str, np.ndarray]:
    """Places of each split: whole units, as many from the lowest as come nearest to each share."""
    import numpy as np

    _, inverse, counts = np.unique(units, return_inverse=True, return_counts=True)
    ends = np.concatenate([[0], counts.cumsum()])
    cuts, wanted = [0], 0.0
    for share in shares.values():
        wanted += share * n
        cuts.append(max(cuts[-1], int(np.abs(ends - wanted).argmin())))
    spans = zip(shares, cuts, cuts[1:], strict=False)
    places = {name: np.flatnonzero((inverse >= low) & (inverse < high)) for name, low, high in spans}
    return {"train": np.flatnonzero(inverse >= cuts[-1]), "val": places["val"], "test": places["test"]}


def _by_class(data: Data, of: str, draw: np.random.Generator) -> np.ndarray:
    """Each class spread evenly over all numbers."""
    import numpy as np

    labels = labels_of(data.train) if data.classes else None
    if labels is None:
        raise SpecError("transforms='split': by class needs one label a sample, and these have none, or more than one")
    order = draw.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    _, begins, counts = np.unique(labels[order], return_index=True, return_counts=True)
    rank = np.arange(len(order)) - np.repeat(begins, counts)
    height = np.empty(len(order))
    height[order] = (rank + 0.5) / np.repeat(counts, counts)  # its place in its class, from 0 to 1
    return _ranks(height)


def _by_group(data: Data, of: str, draw: np.random.Generator) -> np.ndarray:
    import numpy as np

    kinds, inverse = np.unique(np.asarray(_known(data, "group", of)).astype(str), return_inverse=True)
    return draw.permutation(len(kinds))[inverse]


def _by_time(data: Data, of: str, draw: np.random.Generator) -> np.ndarray:
    """Later ones first; dates are text that sorts as time does, such as 2026-11-27."""
    import numpy as np

    if not of and not data.about:
        return np.arange(length(data.train))[::-1]
    times = _known(data, "time", of)
    try:
        _, inverse = np.unique(np.asarray(times), return_inverse=True)
    except TypeError:
        raise SpecError(
            "transforms='split': by time needs times that can be compared, all numbers or all text"
        ) from None
    return -inverse


def _by_chance(data: Data, of: str, draw: np.random.Generator) -> np.ndarray:
    return draw.permutation(length(data.train))


UNITS: dict[str, Callable[[Data, str, np.random.Generator], np.ndarray]] = {
    "class": _by_class,
    "group": _by_group,
    "time": _by_time,
    "chance": _by_chance,
}


def _ranks(values: np.ndarray) -> np.ndarray:
    import numpy as np

    ranks = np.empty(len(values), np.int64)
    ranks[np.argsort(values, kind="stable")] = np.arange(len(values))
    return ranks


def _known(data: Data, by: str, of: str) -> Sequence[Any]:
    """What the data set knows of each sample by a name, or by the only one there is."""
    names = [*data.about.get("train", {})]
    if of in names or (not of and len(names) == 1):
        return data.about["train"][of or names[0]]
    if not names:
        raise SpecError(
            f"transforms='split': by {by} needs to know it of each sample: name a column, or a part of files' names, "
            "where the data set is opened, or give a Dataset an attribute `about`, such as {'speaker': [...]}"
        )
    known = f"known are {', '.join(names)}"
    raise SpecError(f"transforms='split': by {by} needs of=..., and has of={of!r}: {known}{nearest(of, names)}")


def _empty(name: str, by: str, of: str, units: int) -> str:
    """Why a split is empty."""
    if by == "group":
        return (
            f"transforms='split': by group{f' of {of}' * bool(of)} leaves the {name} set empty: of {units} groups "
            "each goes to one split; give a larger fraction, or groups that are smaller"
        )
    return f"transforms='split': by {by} leaves the {name} set empty; give a larger fraction"
