"""Arrays in a `.npz` file of NumPy, which are numbers and never code."""

from __future__ import annotations

import zipfile
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..base import Data
from ..own import from_user
from .files import Files, files, refused
from .looking import Look
from .parting import PARTS, deal
from .reading import check

KIND = "npz"
INPUTS = ("x", "images", "image", "data", "features", "inputs", "input")
TARGETS = ("y", "labels", "label", "targets", "target", "outputs")
NAMES = ("classes", "class_names", "label_names", "names")
COLOURS = (1, 3, 4)


def look(path: str) -> Look:
    """What a file of arrays holds; SpecError as of `npz`."""
    listed = files(KIND, path, folder=False)
    parts, names, left = _read(listed)
    data = _data(parts, names, 0)
    seen = Look.of(f"{KIND}:{path}", data)
    facts = {"arrays": ", ".join(f"{part} x {pair[0].shape} {pair[0].dtype}" for part, pair in parts.items())}
    facts |= {"left out": ", ".join(left)} if left else {}
    given = {part: len(pair[0]) for part, pair in parts.items()}
    return Look(seen.name, seen.sample, given, seen.classes, facts, {}, seen.examples)


def npz(path: str, root: Path, seed: int) -> Data:
    """
    Arrays in a file of NumPy's (`numpy.savez`): `x` and `y`, or `x_train`, `y_train`, `x_test`, `y_test` and alike.

    Samples are rows. Pictures may be (N, H, W) or (N, H, W, C). `classes` may name the labels. Objects, which would be
    code, are never read. Without `val` a tenth of `train` is held out, and without any part a tenth for testing too.

    Data: x as it is, of float64 as float32, pictures (N, C, H, W); y int64 of labels, float32 of numbers.

    Parameters
    ----------
    path
        The file.
    root, seed
        The seed deals out what is held out.

    Raises
    ------
    SpecError
        If there are no such arrays, they have unequal rows, or hold what can't be trained on.
    """
    parts, names, _ = _read(files(KIND, path, folder=False))
    return _data(parts, names, seed)


npz.look = look  # type: ignore[attr-defined]


def _data(parts: dict[str, tuple[Any, Any]], names: list[str], seed: int) -> Data:
    """Arrays by part as Data; names of classes where they are as many as there are labels."""
    if [*parts] == ["train"]:
        (x, y), rows = parts["train"], deal({"train": range(len(parts["train"][0]))}, seed)
        parts = {part: (x[several], y[several]) for part, several in rows.items()}
    order = [part for part in ("train", "val", "test") if part in parts]
    if order == ["train", "val"]:
        data = from_user((parts["train"], parts["val"], parts["val"]), seed)
        data.test = None
    else:
        data = from_user(tuple(parts[part] for part in order), seed)
    if len(names) >= len(data.classes) > 0:
        data.classes = names
    return data


@lru_cache(maxsize=2)
def _read(listed: Files) -> tuple[dict[str, tuple[Any, Any]], list[str], list[str]]:
    """Inputs and targets by part, names of classes, and names of what else there is."""
    import numpy as np

    path = str(listed.path)
    if not zipfile.is_zipfile(path):  # numpy takes any other file for objects of Python
        raise refused(KIND, path, "it is no .npz, as numpy.savez writes them")
    try:
        with listed.path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except ValueError as error:
        if "pickle" in str(error).lower():
            why = "it holds objects of Python, which could run code; save arrays of numbers with numpy.savez"
            raise refused(KIND, path, why) from None
        raise refused(KIND, path, f"it is no .npz: {error}") from None
    except Exception as error:  # of a damaged archive
        raise refused(KIND, path, f"it is no .npz: {' '.join(str(error).split())[:80]}") from None
    parts: dict[str, dict[str, Any]] = {}
    names: list[str] = []
    left = []
    for name, values in arrays.items():
        part, role = _role(name)
        if name.lower() in NAMES and values.ndim == 1:
            names = [value.decode(errors="replace") if isinstance(value, bytes) else str(value) for value in values]
        elif role:
            parts.setdefault(part, {})[role] = values
        else:
            left.append(name)
    pairs = {part: _pair(path, part, found) for part, found in parts.items()}
    labels = {part: y.tolist() for part, (_, y) in pairs.items() if y.ndim == 1 and y.dtype.kind in "iu"}
    if {*pairs} == {*labels} and "train" in labels:
        check(KIND, path, [], labels, "labels of two at least are needed")
    if "train" not in pairs:
        told = ", ".join(arrays) or "nothing"
        raise refused(KIND, path, f"it holds {told}: arrays x and y are needed, or x_train, y_train, x_test and y_test")
    return pairs, names, left


def _role(name: str) -> tuple[str, str]:
    """Of an array's name the part and whether it is "x" or "y"; "" for what is neither."""
    words = name.lower().split("_")
    part = next((PARTS[word] for word in words if word in PARTS), "train")
    rest = [word for word in words if word not in PARTS]
    role = "x" if rest and rest[0] in INPUTS else "y" if rest and rest[0] in TARGETS else ""
    return part, role if len(rest) == 1 else ""


def _pair(path: str, part: str, found: dict[str, Any]) -> tuple[Any, Any]:
    if len(found) < 2:
        lacking = "y" if "x" in found else "x"
        raise refused(KIND, path, f"{part} has no {lacking}; give both, such as x_{part} and y_{part}")
    x, y = found["x"], found["y"]
    if not x.ndim or not y.ndim:
        raise refused(KIND, path, f"{part} has a single number for x or y; they need a row for each sample")
    if len(x) != len(y):
        raise refused(KIND, path, f"{part} has {len(x):,} rows in x and {len(y):,} in y; they must be as many")
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if x.dtype == "uint8" and x.ndim == 3:
        x = x[:, None]
    elif x.dtype.kind in "uf" and x.ndim == 4 and x.shape[3] in COLOURS and x.shape[1] not in COLOURS:
        x = x.transpose(0, 3, 1, 2)
    return x, y
