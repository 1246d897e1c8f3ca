"""
Texts with labels, or with other texts, as rows of tokens of one length.

Legend of the shape comments: N texts, T tokens.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from ..losses import IGNORED
from .base import Data

if TYPE_CHECKING:
    from torch import Tensor

Unit = Literal["words", "bytes"]
Labelled = tuple[Sequence[str], Sequence[int]]
"""Texts, and the label of each."""
WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*|[^\s\w]")
PAD, UNKNOWN = 0, "<unk>"
SOURCE = ("", UNKNOWN)
"""What stands for padding, and for a word that is not in the vocabulary."""
TARGET = ("", "<start>", "<end>", UNKNOWN)
"""The same in targets, with their start and end; their numbers are those of task='sequence_to_sequence'."""
Names = tuple[Sequence[str], Sequence[str]]
"""Of a source's language, and of a target's."""


class Texts(NamedTuple):
    """Texts with their labels, by split, as a list of texts and one of labels each."""

    train: Labelled
    val: Labelled
    test: Labelled
    classes: list[str]
    """Name of each label 0, 1, ..."""


def split(text: str) -> list[str]:
    """A text's words and marks, in small letters."""
    return WORD.findall(text.lower())


def vocabulary(texts: Iterable[Sequence[str]], words: int) -> list[str]:
    """The most frequent words, at most so many, and of equally frequent ones the first by the alphabet."""
    counts = Counter(word for text in texts for word in text)
    return sorted(counts, key=lambda word: (-counts[word], word))[:words]


def numbered(texts: Sequence[Sequence[str]], names: Sequence[str], length: int, fill: int = PAD) -> Tensor:
    """Texts as numbers of their words, (N, length): cut after as many, or filled up."""
    import torch

    places = {word: place for place, word in enumerate(names) if word}
    x, unknown = torch.full((len(texts), length), fill), places[UNKNOWN]
    for row, text in zip(x, texts, strict=True):
        known = [places.get(word, unknown) for word in text[:length]]
        row[: len(known)] = torch.tensor(known, dtype=torch.long)
    return x


def labelled(texts: Texts, *, length: int, unit: Unit, words: int) -> Data:
    """
    Data of texts with a label each: x int64 (N, length) tokens, 0 where a text is over; y int64 (N,).

    Tokens are the bytes of UTF-8, where 0 is padding, or the most frequent words of the training texts, at most so
    many; 1 is any other word.
    """
    import torch

    splits = texts[:3]
    if unit == "bytes":
        names = [chr(byte) if 32 <= byte < 127 else f"\\x{byte:02x}" for byte in range(256)]
        names[PAD] = ""
        rows = [_bytes(lines, length) for lines, _ in splits]
    else:
        cut = [[split(line) for line in lines] for lines, _ in splits]
        names = [*SOURCE, *vocabulary(cut[0], words)]
        rows = [numbered(lines, names, length) for lines in cut]
    first, second, third = ((x, torch.tensor(labels)) for x, (_, labels) in zip(rows, splits, strict=True))
    kind = "bytes" if unit == "bytes" else ""
    return Data(first, second, third, (length,), texts.classes, vocabulary=len(names), pieces=names, tokens=kind)


def translated(sides: Sequence[Sequence[Sequence[str]]], parts: Sequence[Tensor], names: Names, length: int) -> Data:
    """
    Data of words for words: x int64 (N, length), 0 where a source is over; y int64 (N, T) targets, their end, and -100.

    Parameters
    ----------
    sides
        The words of each source and of its target.
    parts
        Places of those of each split.
    names
        The words of either language, which are numbered by themselves: after SOURCE and TARGET.
    length
        Words of a source.
    """
    pieces, classes = [*SOURCE, *names[0]], [*TARGET, *names[1]]
    ended = [[*target, TARGET[2]] for _, target in sides]
    x = numbered([source for source, _ in sides], pieces, length)
    y = numbered(ended, classes, max(map(len, ended)), IGNORED)
    train, val, test = ((x[part], y[part]) for part in parts)
    return Data(train, val, test, (length,), classes, vocabulary=len(pieces), pieces=pieces)


def _bytes(texts: Sequence[str], length: int) -> Tensor:
    import numpy as np
    import torch

    x = np.zeros((len(texts), length), np.int64)
    for row, text in zip(x, texts, strict=True):
        body = np.frombuffer(text.encode()[:length], np.uint8)
        row[: len(body)] = body
    return torch.from_numpy(x)


def taken(texts: Sequence[str], labels: Sequence[int], places: Tensor) -> Labelled:
    """Some texts with their labels."""
    index = places.tolist()
    return [texts[place] for place in index], [labels[place] for place in index]
