"""Texts to be told apart: a line each, with a label in a column or by its folder, or a file each."""

from __future__ import annotations

import io
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from pydantic import Field

from ..base import Data
from .columns import order
from .examples import Example
from .files import Files, files, refused
from .looking import Look, spread
from .parting import PARTS, deal, grouped
from .plain import measure, read
from .tokens import Tokens, encode, vocabulary

KIND = "lines"
HEADS = ("label", "labels", "target", "class", "category", "y", "sentence", "text", "sms", "message", "x")
"""What the columns of a first line are called that is no sample."""

Labelled = tuple[str, str]
"""A text and its label."""


@dataclass(frozen=True)
class Read:
    """Texts with labels."""

    files: Files
    parts: dict[str, list[Labelled]]
    empty: int
    """Texts that were left out since there is nothing in them."""

    @property
    def classes(self) -> list[str]:
        """Names of labels, in their order."""
        names = {label for _, label in self.parts["train"]}
        return sorted(names, key=order)


def look(
    path: str,
    *,
    column: int = 0,
    each: str = "line",
    tokens: Tokens = "characters",
    length: int = 128,
    most: int = 10_000,
) -> Look:
    """What a file or folder of texts holds; SpecError as of `lines`."""
    found = _read(files(KIND, path), column, each)
    return described(f"{KIND}:{path}", found.parts, found.classes, tokens, length, most, found.empty)


def described(
    name: str,
    parts: dict[str, list[Labelled]],
    classes: list[str],
    tokens: Tokens,
    length: int,
    most: int,
    empty: int = 0,
) -> Look:
    """What labelled texts are like."""
    train = parts["train"]
    counts = Counter(label for samples in parts.values() for _, label in samples)
    sizes = sorted(len(text) for text, _ in train)
    facts = {"lengths": f"{sizes[0]:,} to {sizes[-1]:,} characters, {statistics.median_low(sizes):,} in the median"}
    facts |= {"left out": f"{empty:,} without text"} if empty else {}
    twice = len(train) - len({text for text, _ in train})
    facts |= {"repeated": f"{twice:,} texts of train are there before"} if twice else {}
    return Look(
        name,
        ((length,), len(classes), len(vocabulary((text for text, _ in train), tokens, most))),
        {part: len(samples) for part, samples in parts.items()},
        {label: counts[label] for label in classes},
        facts,
        {},
        tuple(Example(train[place][1], train[place][0]) for place in spread(len(train))),
    )


def lines(
    path: str,
    root: Path,
    seed: int,
    *,
    column: Annotated[int, Field(ge=0)] = 0,
    each: Literal["line", "file"] = "line",
    tokens: Literal["characters", "bytes", "words"] = "characters",
    length: Annotated[int, Field(ge=1, le=65536)] = 128,
    most: Annotated[int, Field(ge=1)] = 10_000,
) -> Data:
    """
    Texts with a label each: lines with tabs between text and label, or text files in a folder for each class.

    A folder may hold train, val and test, as files or as folders. Without `val` a tenth of `train` is held out, and
    without any part a tenth for testing too.

    Data: x int16 or int64 (N, T) tokens, filled up with 0; y int64 (N,).

    Parameters
    ----------
    path
        The file (UTF-8) or folder.
    root, seed
        The seed deals out what is held out.
    column
        Which of a line's columns is the label, from 1; 0 takes the one of two that differs least. A first line that
        names columns is no sample.
    each
        Of files in folders of classes, whether each "line" is a sample or each "file".
    tokens
        "characters", "bytes" (of UTF-8) or "words" (in lower case).
    length
        Tokens of a row: longer texts are cut at their end.
    most
        How many kinds of characters or words are told apart, the most frequent ones of training.

    Raises
    ------
    SpecError
        If lines have no label, all have the same, or a file can't be read.
    """
    found = _read(files(KIND, path), column, each)
    return encoded(deal(found.parts, seed), found.parts["train"], found.classes, tokens, length, most)


lines.look = look  # type: ignore[attr-defined]


def encoded(
    parts: dict[str, list[Labelled]],
    whole: Sequence[Labelled],
    classes: list[str],
    tokens: Tokens,
    length: int,
    most: int,
) -> Data:
    """Data of labelled texts; the vocabulary is that of the `whole` training texts, so that seeds share it."""
    import numpy as np
    import torch

    names, labels = vocabulary((text for text, _ in whole), tokens, most), {name: n for n, name in enumerate(classes)}
    splits = {
        part: (
            torch.from_numpy(encode([text for text, _ in samples], names, tokens, length)),
            torch.from_numpy(np.array([labels[label] for _, label in samples], np.int64)),
        )
        for part, samples in parts.items()
    }
    shape, kinds = (length,), len(names)
    data = Data(splits["train"], splits.get("val"), splits.get("test"), shape, classes, vocabulary=kinds)
    if tokens != "bytes":  # whose numbers are one more than the bytes
        data.pieces, data.tokens = names, "characters" if tokens == "characters" else ""
    return data


@lru_cache(maxsize=4)
def _read(listed: Files, column: int, each: str) -> Read:
    """The texts; files that have changed are others, by their digest."""
    path = str(listed.path)
    for name in listed.names:
        if each == "line":
            measure(KIND, path, listed.folder / name)
    folders = listed.path.is_dir() and any(label for items in _grouped(listed).values() for _, label in items)
    parts = _of_folders(listed, each) if folders else _of_columns(listed, column)
    kept = {part: [(text, label) for text, label in samples if text.strip()] for part, samples in parts.items()}
    empty = sum(map(len, parts.values())) - sum(map(len, kept.values()))
    if not kept.get("train"):
        raise refused(KIND, path, "there is no text in it")
    check(KIND, path, kept)
    return Read(listed, kept, empty)


def check(kind: str, path: str, parts: dict[str, list[Labelled]]) -> None:
    """Refuse labels that leave nothing to learn, or that training lacks."""
    classes = {label for _, label in parts["train"]}
    if len(classes) == 1:
        raise refused(kind, path, f"all samples have the label {next(iter(classes))!r}; at least two are needed")
    for part, samples in parts.items():
        if empty := sum(not label.strip() for _, label in samples):
            raise refused(kind, path, f"{empty:,} samples of {part} have no label; give each one, or leave them out")
        if strange := {label for _, label in samples} - classes:
            raise refused(kind, path, f"{part} has the label {sorted(strange)[0]!r}, which train lacks")


def _grouped(listed: Files) -> dict[str, list[tuple[str, str]]]:
    return grouped(listed.names, whole=True)


def _of_folders(listed: Files, each: str) -> dict[str, list[Labelled]]:
    """Texts below a folder for each class."""
    path, parts = str(listed.path), {}
    for part, items in _grouped(listed).items():
        parts[part] = [
            (text, label)
            for name, label in items
            if label
            for text in _texts(read(KIND, path, listed.folder / name), each)
        ]
    return parts


def _texts(text: str, each: str) -> list[str]:
    return _lines(text) if each == "line" else [text]


def _lines(text: str) -> list[str]:
    """Lines, which str.splitlines would end at marks within a text, too."""
    return [line.removesuffix("\n") for line in io.StringIO(text, newline=None)]


def _of_columns(listed: Files, column: int) -> dict[str, list[Labelled]]:
    """Texts and labels of files of lines with tabs in them."""
    path = str(listed.path)
    if not listed.names:
        raise refused(KIND, path, "there are no files in it")
    rows: dict[str, list[list[str]]] = {}
    for name in listed.names:
        part = PARTS.get(PurePosixPath(name).stem.lower(), "train") if listed.path.is_dir() else "train"
        split = [line.split("\t") for line in _lines(read(KIND, path, listed.folder / name))]
        rows.setdefault(part, []).extend(_checked(path, name, split, column))
    if "train" not in rows:
        raise refused(KIND, path, f"there is no train among {', '.join(rows)}")
    at = column - 1 if column else _label(rows["train"])
    return {part: [("\t".join(row[:at] + row[at + 1 :]), row[at]) for row in several] for part, several in rows.items()}


def _checked(path: str, name: str, split: list[list[str]], column: int) -> list[list[str]]:
    """The rows of a file without its heads, each of as many columns."""
    wide = max(Counter(len(row) for row in split if row != [""]).most_common(1), default=(0, 0))[0]
    if wide < 2:
        raise refused(
            KIND, path, f"the lines of {name} have no tab, and so no label: write text and label with a tab between, "
            "or put files into a folder for each class; text without labels is dataset='text:...'"
        )  # fmt: skip
    if column > wide:
        raise refused(KIND, path, f"options={{'column': {column}}}: the lines of {name} have {wide} columns")
    heads = int(all(head.strip().lower() in HEADS for head in split[0]))
    split = split[heads:]
    for number, row in enumerate(split, 1 + heads):
        if row != [""] and len(row) != wide:
            raise refused(KIND, path, f"line {number:,} of {name} has {len(row)} columns, others have {wide}")
    return [row for row in split if row != [""]]


def _label(rows: list[list[str]]) -> int:
    """The column with the fewest different values."""
    kinds = [len({row[at] for row in rows}) for at in range(len(rows[0]))]
    return kinds.index(min(kinds))
