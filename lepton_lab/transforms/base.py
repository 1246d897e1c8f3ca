"""
What marks a member of TRANSFORMS, and which data it fits.

Legend of the shape comments: B samples, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

Marked = TypeVar("Marked", bound=Callable[..., Any])
Sample = tuple[tuple[int, ...], int, int]


class Transform(Protocol):
    """A member: a function with these attributes, which its mark gives it."""

    __name__: str
    augments: bool
    """Whether it changes batches in training; else data as a whole, once."""
    copies: Callable[..., bool]
    """Whether, with its options, samples are there several times after it."""
    deals: bool
    """Whether it deals samples to splits anew."""
    fits: bool
    """Whether it learns from the training samples, such as their mean."""
    kinds: tuple[str, ...]
    """Names of `preparation.KINDS` that it fits; empty for all."""
    mixes: bool
    """Whether it mixes samples of a batch, and makes their labels chances of each class."""
    remakes: bool
    """Whether samples are other numbers after it, of another shape or meaning."""
    scales: bool
    """Whether it says how numbers are scaled, which stay as they are."""
    reads: Mapping[str, Callable[[str], Any]]
    """Options that are files, each with what reads one; a run keeps copies."""
    refuse: Callable[..., str]
    """Why it can't take samples of (shape, classes, vocabulary) with its options, as the end of a sentence; or ""."""
    sees: Callable[..., Sample]
    """What models are told of samples after it, of (shape, classes, vocabulary) before and its options."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Data of (data, seed); or (x, y) of (x, y, draws)."""


def once(
    *kinds: str,
    sees: Callable[..., Sample] | None = None,
    refuse: Callable[..., str] | None = None,
    reads: Mapping[str, Callable[[str], Any]] | None = None,
    copies: Callable[..., bool] | None = None,
    deals: bool = False,
    fits: bool = False,
    scales: bool = False,
) -> Callable[[Marked], Marked]:
    """
    Mark a function `(data, seed, **options) -> Data`: applied where a run's data are loaded, on every rank alike.

    `kinds`, names of `preparation.KINDS`, are what it fits; all, if none is named. `sees(shape, classes, vocabulary,
    **options)` says what becomes of the three where it changes them, and `refuse` of the same why it can't take them,
    before anything is read. What else it can't do with data is a SpecError. `reads` names options that are files, each
    with what reads one and refuses a bad one: a run keeps copies of them. `copies(**options)` says whether samples are
    there several times after it, and `fits` that it learns from training samples: what `deals` samples to splits must
    come before both. `scales` says that it tells how numbers are scaled, which one that `sees` would void.
    """
    shared: dict[str, Any] = {"kinds": kinds, "refuse": refuse or _none, "sees": sees or _same, "reads": reads or {}}
    shared |= {"remakes": sees is not None, "scales": scales}
    return _mark(augments=False, mixes=False, copies=copies or _never, deals=deals, fits=fits, **shared)


def augments(*kinds: str, mixes: bool = False, refuse: Callable[..., str] | None = None) -> Callable[[Marked], Marked]:
    """
    Mark a function `(x, y, draws, **options) -> (x, y)`: applied to batches in training, on the rank's device.

    x (B, ...) are the samples that a rank computes, y their targets. Pixels come as floats from 0 to 1, before mean and
    std of the data set; tokens as int64; other floats as the data set has them. Its random numbers are those of
    `draws`, a `Draws`. One that `mixes` is given whole micro-batches, and gives y as chances (B, K).
    """
    shared: dict[str, Any] = {"kinds": kinds, "refuse": refuse or _none, "sees": _same, "reads": {}}
    shared |= {"remakes": False, "scales": False}
    return _mark(augments=True, mixes=mixes, copies=_never, deals=False, fits=False, **shared)


def _never(**options: Any) -> bool:
    return False


def _none(shape: tuple[int, ...], classes: int, vocabulary: int, **options: Any) -> str:
    return ""


def _same(shape: tuple[int, ...], classes: int, vocabulary: int, **options: Any) -> Sample:
    return shape, classes, vocabulary


def _mark(**attributes: Any) -> Callable[[Marked], Marked]:
    def mark(function: Marked) -> Marked:
        for name, value in attributes.items():
            setattr(function, name, value)
        return function

    return mark
