"""
Texts of data: tokens read back as text, and text as tokens again.

A sample is a text of its own where it has a label. Where each token has the next one as its target, samples are windows
that follow each other, and a part of the data is one text.

Legend of the shape comments: N samples, T tokens of one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import SpecError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ..datasets import Data

PARTS = ("train", "val", "test")
BETWEEN = {"characters": "", "": " "}
"""What stands between tokens that have names, by `Data.tokens`."""
Write = Callable[[str], "Sequence[int]"]


def continued(shape: tuple[int, ...], classes: int, vocabulary: int) -> bool:
    """Whether each token has the next one as its target."""
    return vocabulary > 0 and vocabulary == classes


def labelled(shape: tuple[int, ...], classes: int, vocabulary: int, **options: object) -> str:
    """Why texts are none that have a label each."""
    whole = continued(shape, classes, vocabulary)
    return "is for texts with a label each, and of these each token is to be predicted" if whole else ""


def read(data: Data, name: str) -> dict[str, list[str]]:
    """The texts of each part, for a transform of this name; tokens that are no text are a SpecError."""
    import torch

    spell = _speller(data, name)
    whole = continued(*data.sample)
    texts: dict[str, list[str]] = {}
    for part in PARTS:
        if (split := getattr(data, part)) is None:
            continue
        if not isinstance(split, tuple):
            raise SpecError(f"transforms={name!r}: samples must be tensors, all of one length; pad them where they are")
        x, y = split
        rows = torch.cat([x.flatten(), y[-1, -1:]])[None] if whole else x  # windows as one text
        texts[part] = [spell(row) for row in rows.numpy()]
    return texts


def _speller(data: Data, name: str) -> Callable[[Any], str]:
    if data.tokens == "bytes":
        return lambda row: row.astype("uint8").tobytes().rstrip(b"\0").decode(errors="replace")
    names, between = names_of(data), BETWEEN.get(data.tokens)
    if between is None or not names:
        raise SpecError(
            f"transforms={name!r}: takes texts as bytes, characters or words, and these tokens are none that it can "
            "read; put it before what makes other tokens of them"
        )
    return lambda row: between.join(names[token] for token in row if names[token])


def names_of(data: Data) -> list[str]:
    """What each token is; [] where that is not known."""
    return data.pieces or (data.classes if continued(*data.sample) else [])


def letters(data: Data) -> Write:
    """How a text is written in the bytes, characters or words of data; one that these don't have is left out."""
    if data.tokens == "bytes":
        return lambda text: text.encode()
    numbers = {name: number for number, name in enumerate(names_of(data))}
    parts = str.split if data.tokens != "characters" else list
    return lambda text: [numbers[part] for part in parts(text) if part in numbers]


def written(
    data: Data, texts: dict[str, list[str]], write: Write, length: int, dtype: torch.dtype, **more: Any
) -> Data:
    """
    Data of some texts, written as tokens: `length` of a sample, filled up with 0 or cut, or windows of as many.

    `more` are fields of Data that change.
    """
    whole = continued(*data.sample)
    parts: dict[str, Any] = {}
    for part, rows in texts.items():
        if whole:
            parts[part] = _windows(write(rows[0]), length, dtype)
        else:
            parts[part] = _filled([write(text) for text in rows], length, dtype), getattr(data, part)[1]
    return dataclasses.replace(data, **parts, shape=(length,), collate=None, lengths=None, **more)


def _windows(tokens: Sequence[int], length: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Windows of a stream of tokens that follow each other, and the same one token later, (N, T) each."""
    import torch

    stream = torch.tensor(list(tokens), dtype=dtype)
    count = (len(stream) - 1) // length
    if count < 1:
        raise SpecError(
            f"transforms: a part of the text is {len(stream)} tokens long, too few for a window of {length}"
        )
    x, y = (stream[start : start + count * length].view(count, length).clone() for start in (0, 1))
    return x, y


def _filled(rows: Sequence[Sequence[int]], length: int, dtype: torch.dtype) -> Tensor:
    import torch

    x = torch.zeros(len(rows), length, dtype=dtype)
    for place, row in enumerate(rows):
        tokens = torch.tensor(list(row[:length]), dtype=dtype)
        x[place, : len(tokens)] = tokens
    return x
