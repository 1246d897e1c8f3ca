"""Samples that are taken out of the data, or dealt out more evenly: duplicates, blank ones, outliers, rare classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from ..errors import SpecError
from . import findings
from .base import once
from .picking import keep, labels_of, length, parts, told

if TYPE_CHECKING:
    import numpy as np

    from ..datasets import Data

SPLITS = {"train": "training", "val": "validation", "test": "test"}


@once()
def deduplicate(data: Data, seed: int, *, distance: Annotated[float, Field(ge=0, lt=1)] = 0.0) -> Data:
    """
    Take out samples that are there already, in their own split or in one that is measured on.

    The test set stays as it is, so that figures remain comparable: what is also there goes from the validation and the
    training set, and what is in the validation set goes from the training set. Of two that are the same but for their
    labels one stays all the same, and the note says how many these were.

    Parameters
    ----------
    data, seed
        Nothing is drawn.
    distance
        How far apart two may be that count as the same, from 0 to below 1: 0 takes equal ones alone. Of pictures it is
        1 minus the correlation of small grey copies, 12 x 12 pixels; of sounds that of their spectra, where 0.015 finds
        copies with noise 20 dB below them, or of 8 bits; of texts 1 minus the fraction of runs of 4 tokens
        that both have, after letters were made small; of rows of numbers the root mean square difference in standard
        deviations.
    """
    twins = findings.twins(data, distance)
    gone = {twin.sample for twin in twins if twin.sample[0] != "test"}
    leaks = sum(twin.leaks for twin in twins)
    differ = sum(twin.differ for twin in twins)
    text = f"{_counted(gone)} of duplicates taken out"
    text += f"; {leaks:,} of them were in a split that is measured on" if leaks else ""
    text += f"; {differ:,} had another label than the sample that they are like" if differ else ""
    return _without(data, gone, "deduplicate", text)


@once()
def drop_blank(data: Data, seed: int) -> Data:
    """Take out training and validation samples that are one value all over: black pictures, silence, empty texts."""
    gone = {place for place in findings.blank(data) if place[0] != "test"}
    return _without(data, gone, "drop_blank", f"{_counted(gone)} that are one value all over taken out")


@once("pictures", "table")
def drop_outliers(data: Data, seed: int, *, sigmas: Annotated[float, Field(gt=0, le=50)] = 6.0) -> Data:
    """
    Take out training samples that lie far from all others.

    Parameters
    ----------
    data, seed
        The seed draws those that others are compared with, where there are more than 5,000.
    sigmas
        How many robust standard deviations the logarithm of a sample's distance to its nearest lies above the median.
    """
    gone = {*findings.outliers(data, sigmas, seed)}
    return _without(data, gone, "drop_outliers", f"{_counted(gone)} far from all others taken out")


@once(copies=lambda by="over": by == "over")
def balance(data: Data, seed: int, *, by: Literal["over", "under"] = "over") -> Data:
    """
    Have every class as often in the training set.

    Parameters
    ----------
    data, seed
        The seed draws which samples are taken.
    by
        "over": samples of rarer classes are there several times, each as often as any other of its class, to one;
        "under": samples of more frequent classes are left out.

    Raises
    ------
    SpecError
        If samples have no label, or more than one.
    """
    import numpy as np

    labels = labels_of(parts(data)["train"]) if data.classes else None
    if labels is None or (labels < 0).any():
        raise SpecError("transforms='balance': needs one label a sample, and these have none, or more than one")
    kinds, counts = np.unique(labels, return_counts=True)
    wanted = int(counts.max() if by == "over" else counts.min())
    draw = np.random.default_rng(seed)
    taken = [_drawn(draw, np.flatnonzero(labels == kind), wanted) for kind in kinds]
    places = np.sort(np.concatenate(taken))
    names = ", ".join(f"{data.classes[kind]} {count:,}" for kind, count in zip(kinds, counts, strict=True))
    text = f"{wanted:,} training samples of each class, of {names}"
    return told(keep(data, train=places), "balance", text, [])


def _drawn(draw: np.random.Generator, places: np.ndarray, wanted: int) -> np.ndarray:
    """So many of some places, each as often as any other, to one."""
    import numpy as np

    times, rest = divmod(wanted, len(places))
    return np.concatenate([np.tile(places, times), draw.permutation(places)[:rest]])


def _counted(gone: set[findings.Place]) -> str:
    """How many samples of which split."""
    of = {name: sum(split == name for split, _ in gone) for name in SPLITS}
    named = [f"{count:,} {SPLITS[name]} samples" for name, count in of.items() if count]
    return " and ".join(named) or "no samples"


def _without(data: Data, gone: set[findings.Place], name: str, text: str) -> Data:
    splits = {}
    for split, samples in parts(data).items():
        left = [place for place in range(length(samples)) if (split, place) not in gone]
        if not left:
            raise SpecError(f"transforms={name!r}: leaves no {SPLITS[split]} samples; {text}")
        if len(left) < length(samples):
            splits[split] = left
    return told(keep(data, **splits), name, text, sorted(gone))
