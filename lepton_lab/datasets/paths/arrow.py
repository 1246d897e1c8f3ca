"""A data set of Hugging Face's `datasets` on disk (`save_to_disk`), read by pyarrow: images, texts or columns."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from ...errors import SpecError, nearest, needs
from ..base import Data
from . import columns, lines, pixels, table
from .examples import Example, png
from .files import Files, files, refused, some
from .images import USUAL, moments
from .looking import Look, spread
from .parting import PARTS, deal
from .reading import Lazy, check, loaded
from .rows import Rows

if TYPE_CHECKING:
    import numpy as np

KIND = "hf"


@dataclass(frozen=True)
class Read:
    """Rows by part, and what columns are."""

    path: str
    parts: dict[str, Any]
    """Tables of pyarrow."""
    features: dict[str, dict[str, Any]]
    """By column what the set says of it."""

    def kind(self, name: str) -> str:
        """What a column is: "image", "label", "text", or another name of theirs."""
        said = self.features.get(name)
        said = said if isinstance(said, dict) else {}  # of a column of lists it is a list, too
        known = {"Image": "image", "ClassLabel": "label"}.get(said.get("_type", ""), said.get("_type", ""))
        return "text" if known == "Value" and said.get("dtype") in ("string", "large_string") else known

    def only(self, kind: str, but: str = "") -> str:
        """The first column of a kind; "" where there is none."""
        return next((name for name in self.features if name != but and self.kind(name) == kind), "")

    def target(self, asked: str) -> str:
        """The column to be predicted, as it was asked for or guessed."""
        names = [*self.features]
        if asked and asked not in names:
            told = f"there is no such column{nearest(asked, names)} (columns: {', '.join(names)})"
            raise SpecError(f"options={{'target': {asked!r}}}: {told}")
        return asked or self.only("label") or columns.guess(names)

    def labels(self, name: str) -> tuple[dict[str, list[str]], list[str]]:
        """Of each row of each part its label's name, and all names in their order."""
        names = self.features[name].get("names")
        values = {part: rows[name].to_pylist() for part, rows in self.parts.items()}
        if not names:
            names = sorted({str(value) for value in values["train"]}, key=columns.order)
            return {part: [str(value) for value in several] for part, several in values.items()}, names
        if any(value is None or value < 0 for value in values["train"]):
            raise refused(KIND, self.path, f"rows of train have no {name!r}, which is to be predicted")
        hidden = [part for part, several in values.items() if any(value is None or value < 0 for value in several)]
        for part in hidden:  # as of published tests without answers
            del values[part]
        return {part: [names[value] for value in several] for part, several in values.items()}, names


class Packed(Lazy):
    """Images within a table: uint8 (C, H, W) and a label."""

    def __init__(self, column: Any, items: Sequence[tuple[Any, int]], shape: tuple[int, int, int]) -> None:
        super().__init__(items, shape, "uint8")
        self.column, self.form = column, shape

    def read(self, path: Any) -> np.ndarray:
        """The pixels of a row, (C, H, W)."""
        return pixels.read(_source(self.column[path].as_py()), self.form, True)


def _source(cell: dict[str, Any] | None) -> Path | bytes:
    """An image as its bytes, or the file that has them."""
    cell = cell or {}
    return cell["bytes"] if cell.get("bytes") else Path(cell.get("path") or "")


def look(
    path: str, *, target: str = "", size: int = 0, tokens: Any = "characters", length: int = 128, most: int = 10_000
) -> Look:
    """What a saved set holds; SpecError as of `hf`."""
    found, name = _read(files(KIND, path, folder=True)), f"{KIND}:{path}"
    goal = found.target(target)
    if image := found.only("image"):
        return _pictured(name, found, image, goal, size)
    if words := found.only("text", but=goal):
        labels, classes = found.labels(goal)
        seen = lines.described(name, _texts(found, words, labels), classes, tokens, length, most)
    else:
        rows = _frame(found)
        seen = table.described(name, rows, table.plan(rows, goal, "", "auto", "fill", "refuse"), bool(target))
    return seen


def _pictured(name: str, found: Read, image: str, goal: str, size: int) -> Look:
    labels, classes = found.labels(goal)
    shape, column, train = _shape(found, image, size), found.parts["train"][image], labels["train"]
    counts = Counter(label for several in labels.values() for label in several)
    shown = [
        Example(train[row], f"row {row}", png(pixels.read(_source(column[row].as_py()), shape, True)))
        for row in spread(len(train))
    ]
    sizes = {part: len(several) for part, several in labels.items()}
    told = {"columns": ", ".join(found.features), "images": image, "target": goal}
    return Look(name, (shape, len(classes), 0), sizes, {one: counts[one] for one in classes}, told, {}, tuple(shown))


def hf(
    path: str,
    root: Path,
    seed: int,
    *,
    target: str = "",
    size: Annotated[int, Field(ge=0, le=4096)] = 0,
    tokens: Literal["characters", "bytes", "words"] = "characters",
    length: Annotated[int, Field(ge=1, le=65536)] = 128,
    most: Annotated[int, Field(ge=1)] = 10_000,
) -> Data:
    """
    A set of Hugging Face's `datasets`, as `save_to_disk` writes it: images, texts or columns, with a label each.

    What a model sees is the first column of images, else the first of texts, else all columns but the target, as
    `table` has them. Parts are those of the set. Without `val` a tenth of `train` is held out, and without any part a
    tenth for testing too.

    Data: x uint8 (N, C, H, W), tokens (N, T) or float32 (N, F); y int64 (N,), or float32 of a regression.

    Parameters
    ----------
    path
        The folder.
    root, seed
        The seed deals out what is held out.
    target
        The column to be predicted; if empty the first that is a ClassLabel, else as of `table`.
    size
        Pixels of a side that images are scaled to, their middle cut out; 0 keeps images that are all of one size.
    tokens
        Of texts: "characters", "bytes" (of UTF-8) or "words" (in lower case).
    length
        Tokens of a row: longer texts are cut at their end.
    most
        How many kinds of characters or words are told apart, the most frequent ones of training.

    Raises
    ------
    SpecError
        If the folder holds no such set, or nothing in it can be predicted.
    """
    found = _read(files(KIND, path, folder=True))
    goal = found.target(target)
    if image := found.only("image"):
        return _images(found, image, goal, size, seed)
    if words := found.only("text", but=goal):
        labels, classes = found.labels(goal)
        texts = _texts(found, words, labels)
        return lines.encoded(deal(texts, seed), texts["train"], classes, tokens, length, most)
    rows = _frame(found)
    return table.made(rows, table.plan(rows, goal, "", "auto", "fill", "refuse"), seed, False)


hf.look = look  # type: ignore[attr-defined]


def _images(found: Read, image: str, goal: str, size: int, seed: int) -> Data:
    labels, classes = found.labels(goal)
    check(KIND, found.path, [], labels, "at least two are needed")
    number, shape = {name: place for place, name in enumerate(classes)}, _shape(found, image, size)
    rows = {part: [(part, row) for row in range(len(several))] for part, several in labels.items()}
    packed = {}
    for part, several in deal(rows, seed).items():
        source = several[0][0]  # what is held out are rows of train
        items = [(row, number[labels[source][row]]) for _, row in several]
        packed[part] = Packed(found.parts[source][image], items, shape)
    splits, _ = loaded(packed, KIND, found.path, skip=False)
    parts = splits["train"], splits.get("val"), splits.get("test")
    return Data(*parts, shape, classes, *moments(splits["train"]))


def _shape(found: Read, image: str, size: int) -> tuple[int, int, int]:
    """C, H and W of a sample, by a spread part of the training images."""
    column = found.parts["train"][image]
    seen = [pixels.glance(_source(column[row].as_py())) for row in range(0, len(column), -(-len(column) // 200))]
    good = [one for one in seen if not isinstance(one, str)]
    if not good:
        raise refused(KIND, found.path, f"images of the column {image!r} can't be read: {seen[0] if seen else 'none'}")
    alike = {(one.height, one.width) for one in good}
    sides = (size, size) if size else alike.pop() if len(alike) == 1 else (USUAL, USUAL)
    return (1 if all(one.grey for one in good) else 3, *sides)


def _texts(found: Read, words: str, labels: dict[str, list[str]]) -> dict[str, list[lines.Labelled]]:
    parts = {
        part: [(text or "", label) for text, label in zip(found.parts[part][words].to_pylist(), several, strict=True)]
        for part, several in labels.items()
    }
    lines.check(KIND, found.path, parts)
    return parts


def _frame(found: Read) -> Rows:
    """All rows as a table of pandas', with names for labels."""
    import pandas

    frames, rows, begin = [], {}, 0
    for part, several in found.parts.items():
        frame = several.to_pandas()
        for name in (name for name in frame.columns if found.kind(name) == "label"):
            names = found.features[name]["names"]
            frame[name] = [names[value] if value >= 0 else None for value in frame[name]]
        rows[part] = [*range(begin, begin + len(frame))]
        begin += len(frame)
        frames.append(frame)
    return Rows(found.path, pandas.concat(frames, ignore_index=True), rows, 0, KIND)


@lru_cache(maxsize=2)
def _read(listed: Files) -> Read:
    """The tables of all parts, mapped into memory; files that have changed are others, by their digest."""
    needs(f"dataset='{KIND}:...'", "pyarrow")
    path, parts = str(listed.path), dict[str, Any]()
    features: dict[str, dict[str, Any]] = {}
    heads = [Path(name).parent for name in listed.names if Path(name).name == "state.json"]
    for head in heads:
        part = PARTS.get(head.name.lower(), "") if len(heads) > 1 else "train"
        folder = listed.folder / head
        if part:
            parts[part] = _table(path, folder)
            features = _features(path, folder)
            if lacking := [name for name in features if name not in parts[part].column_names]:
                why = f"{folder.name} has no column {lacking[0]!r}, which its dataset_info.json names; save it anew"
                raise refused(KIND, path, why)
    if "train" not in parts:
        there = f": its parts are {some([head.name for head in heads])}" if heads else ""
        raise refused(KIND, path, f"there is no state.json of a train in it, as save_to_disk writes{there}")
    return Read(path, parts, features)


def _features(path: str, folder: Path) -> dict[str, Any]:
    """What columns are, by name."""
    try:
        found = json.loads((folder / "dataset_info.json").read_text())["features"]
    except (OSError, LookupError, TypeError, ValueError):
        found = None
    if not found or not isinstance(found, dict):
        why = "has no dataset_info.json that names its columns, as save_to_disk writes; save it anew"
        raise refused(KIND, path, f"{folder.name} {why}")
    return found


def _table(path: str, folder: Path) -> Any:
    """All rows of a part."""
    import pyarrow

    try:
        names = [file["filename"] for file in json.loads((folder / "state.json").read_text())["_data_files"]]
        maps = [pyarrow.memory_map(str(folder / Path(name).name)) for name in names]
        return pyarrow.concat_tables([pyarrow.ipc.open_stream(file).read_all() for file in maps])
    except (OSError, KeyError, ValueError, pyarrow.ArrowException) as error:
        raise refused(KIND, path, f"{folder.name} can't be read: {' '.join(str(error).split())[:100]}") from None
