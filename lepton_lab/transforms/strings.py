"""
Strings of words, put together from recordings of single ones.

Legend of the shape comments: N sounds, T samples of one, S labels.
"""

from __future__ import annotations

import dataclasses
import random
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from ..errors import SpecError
from ..losses import IGNORED
from .base import once
from .speech import stacked

if TYPE_CHECKING:
    from torch import Tensor

    from ..datasets import Data

BLANK = "(blank)"
"""The first class, which CTC says where nothing new begins."""
GAP = 0.12  # seconds of silence between two words, at most

Words = Annotated[int, Field(ge=1, le=20)]


def _longer(shape: tuple[int, ...], classes: int, vocabulary: int, *, longest: int = 5, **_: Any) -> Any:
    return (max(shape[0], longest * shape[0] * 2 // 3),), classes + 1, vocabulary


def _single(shape: tuple[int, ...], classes: int, vocabulary: int, **_: Any) -> str:
    """Why samples are no words."""
    if len(shape) != 1:
        return f"takes sounds (N, T), and these are of shape {shape}"
    return "" if classes else "takes sounds of one word each, and these have no classes"


@once("sound", sees=_longer, refuse=_single)
def strings(
    data: Data,
    seed: int,
    *,
    shortest: Words = 3,
    longest: Words = 5,
    times: Annotated[float, Field(gt=0, le=20)] = 1.0,
) -> Data:
    """
    Rows of words one after the other, for task='ctc', made of sounds that hold one word each.

    A row is of one speaker, where it is known who speaks. Its words come from its own split, with up to 0.12 s of
    silence between them; what would go beyond two thirds of the longest possible row is left out. Labels (N, S) are
    the words' classes, counted from 1: 0 is CTC's blank.

    Parameters
    ----------
    data, seed
        As of every transform; the seed deals out words and silences.
    shortest, longest
        Words of a row, from 1 to 20; drawn evenly between.
    times
        How many rows are made, as a multiple of the samples of a split.

    Raises
    ------
    SpecError
        If a row is to have more words at least than at most.
    """
    if shortest > longest:
        raise SpecError(f"transforms='strings': shortest={shortest}: must be at most longest={longest}")
    (size,), *_ = _longer(*data.sample, longest=longest)
    parts: dict[str, Any] = {}
    for name, part in (("train", data.train), ("val", data.val), ("test", data.test)):
        if (pair := stacked(part, "strings")) is not None:
            speakers = data.about.get(name, {}).get("speaker") or [0] * len(pair[1])
            rows = max(1, round(times * len(pair[1])))
            parts[name] = _rows(*pair, speakers, rows, (shortest, longest), size, data.sample_rate, random.Random(seed))
    fields: dict[str, Any] = {"shape": (size,), "classes": [BLANK, *data.classes], "task": "ctc", "about": {}}
    return dataclasses.replace(data, **parts, **fields, collate=None, lengths=None)


def _rows(
    x: Tensor, y: Tensor, speakers: Any, count: int, words: tuple[int, int], size: int, rate: int, draw: random.Random
) -> tuple[Tensor, Tensor]:
    """So many rows of words, (count, size), and their labels (count, S)."""
    import torch

    recordings: dict[Any, list[int]] = {}
    for place, speaker in enumerate(speakers):
        recordings.setdefault(speaker, []).append(place)
    ends = [int(row.nonzero().max()) + 1 if row.any() else 0 for row in x]  # without the silence that fills them up
    voices = [*recordings]
    rows, labels = torch.zeros(count, size), torch.full((count, words[1]), IGNORED)
    for row, spelled in zip(rows, labels, strict=True):
        voice = recordings[draw.choice(voices)]
        at = 0
        for number in range(draw.randint(*words)):
            at += draw.randint(0, round(GAP * rate))
            word = draw.choice(voice)
            if at + ends[word] > size:
                break
            row[at : at + ends[word]] = x[word, : ends[word]]
            spelled[number] = y[word] + 1
            at += ends[word]
    return rows, labels
