"""
What a user's code logs while it trains: `lab.log` for numbers; images, texts, sounds and histograms.

The functions may stand anywhere in a model, a loss or a hook. Where no run trains, as when `run.model()` is tried in a
notebook, they check what they are given and do nothing else.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import SpecError, nearest, shown, visible
from . import media, recorder
from .figures import TAKEN
from .recorder import REDUCTIONS, Reduce


@torch.compiler.disable  # type: ignore[untyped-decorator]  # what it keeps must not become a part of a graph
def log(name: str, value: Any, reduce: Reduce = "mean") -> None:
    """
    Log a number of one's own, from a model, a loss or a hook: a curve by step beside those of the run.

    A tensor stays on its device until a thread writes it, so that the loop never waits. What is logged several times
    in a step is put together like what several ranks log. While a split is evaluated, it becomes a curve of that
    split. A run keeps 64 MiB of numbers under at most 200 names, and 256 MiB of media; what comes after that is
    dropped and counted, and the run's views say so.

    Parameters
    ----------
    name
        Of the curve, at most 100 characters.
    value
        A number, or a tensor or array with one number.
    reduce
        How the values of all ranks become one: "mean", "sum", "max", or "rank0": the last value of rank 0.

    Raises
    ------
    SpecError
        If it is given something else.
    """
    current = recorder.current
    if hasattr(value, "placements"):
        _whole("log", name, value)
    if current is None or current.reductions.get(name) != reduce or (hasattr(value, "shape") and value.shape):
        _check(name, value, reduce)
        if current is not None and (before := current.known(name, reduce)) != reduce:
            raise SpecError(
                f"log({name!r}): reduce={reduce!r}, and was {before!r} before; take one of them, or two names"
            )
    if current is not None:
        current.number(name, value)


@torch.compiler.disable  # type: ignore[untyped-decorator]
def log_image(name: str, image: Any) -> None:
    """
    Log an image (H, W), (1, H, W) or (3, H, W), of the ranks that compute the first part of each batch.

    8 bits a pixel are taken as they are; floats are black at 0 and white at 1, or from the least to the greatest where
    they lie beyond.

    Raises
    ------
    SpecError
        If it has another shape.
    """
    _named("log_image", name)
    media.check_image(name, _shape("log_image", name, image))
    if recorder.current is not None:
        recorder.current.medium("image", name, image)


@torch.compiler.disable  # type: ignore[untyped-decorator]
def log_text(name: str, text: str) -> None:
    """
    Log a text, of which at most 65,536 characters are kept, of the ranks that compute the first part of each batch.

    Raises
    ------
    SpecError
        If it is no text.
    """
    _named("log_text", name)
    media.check_text(name, text)
    if recorder.current is not None:
        recorder.current.medium("text", name, text)


@torch.compiler.disable  # type: ignore[untyped-decorator]
def log_audio(name: str, wave: Any, rate: int | None = None) -> None:
    """
    Log a sound, of the ranks that compute the first part of each batch.

    Parameters
    ----------
    name
        What it is called.
    wave
        Samples (T,), (1, T) or (2, T): floats from -1 to 1, or whole numbers of 16 bits.
    rate
        Samples a second; has to be given.

    Raises
    ------
    SpecError
        If it has another shape, or no rate.
    """
    _named("log_audio", name)
    media.check_audio(name, _shape("log_audio", name, wave), rate)
    if recorder.current is not None:
        recorder.current.medium("audio", name, wave, rate=rate)


@torch.compiler.disable  # type: ignore[untyped-decorator]
def log_histogram(name: str, values: Any) -> None:
    """
    Log how numbers are spread, in 64 equal intervals, of the ranks that compute the first part of each batch.

    Of more than 1,048,576 numbers every k-th counts, so that as many are left.

    Raises
    ------
    SpecError
        If it is given no tensor or array with numbers.
    """
    _named("log_histogram", name)
    if math.prod(shape := _shape("log_histogram", name, values)) == 0:
        raise SpecError(f"log_histogram({name!r}): shape {shape} holds no number")
    if recorder.current is not None:
        recorder.current.medium("histogram", name, values)


def _check(name: Any, value: Any, reduce: Any) -> None:
    """Refuse what `log` can't take."""
    _named("log", name)
    if name in TAKEN:
        raise SpecError(f"log({name!r}): rows of events have that name themselves ({', '.join(TAKEN)}); take another")
    if reduce not in REDUCTIONS:
        known = ", ".join(REDUCTIONS)
        raise SpecError(f"log({name!r}): reduce={reduce!r} must be one of {known}{nearest(str(reduce), REDUCTIONS)}")
    if isinstance(value, (Tensor, np.ndarray)):
        if math.prod(value.shape) != 1:
            raise SpecError(
                f"log({name!r}): shape {tuple(value.shape)} is not one number; log its mean or norm, or all of it "
                f"with lab.log_histogram({name!r}, ...)"
            )
    elif not isinstance(value, (bool, int, float, np.number)):
        raise SpecError(f"log({name!r}): {shown(value)} is no number; texts go to lab.log_text")


def _named(function: str, name: Any) -> None:
    if not isinstance(name, str) or not name.strip() or len(name) > 100:
        raise SpecError(f"{function}({shown(name)}, ...): a name must be text of 1 to 100 characters; it comes first")
    visible(f"{function}: name", name)


def _whole(function: str, name: Any, value: Any) -> None:
    """Refuse a tensor that is spread over ranks: to put it together all of them would have to log at the same time."""
    if recorder.spread(value):
        raise SpecError(
            f"{function}({name!r}): each rank has a part of this tensor, as strategies that split models do; give "
            "value.full_tensor(), computed on every rank, or this rank's part by value.to_local()"
        )


def _shape(function: str, name: str, value: Any) -> tuple[int, ...]:
    _whole(function, name, value)
    if not isinstance(value, (Tensor, np.ndarray)):
        raise SpecError(f"{function}({name!r}): {type(value).__name__} is neither a tensor nor a numpy array")
    real = not value.is_complex() if isinstance(value, Tensor) else value.dtype.kind in "biuf"
    if not real:
        raise SpecError(f"{function}({name!r}): {value.dtype} are no real numbers; give value.abs(), or another part")
    return tuple(value.shape)
