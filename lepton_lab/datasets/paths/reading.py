"""Samples in files of their own, images or sounds: held in memory all, or read as they are asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Self

from ... import host
from .files import Files, refused, some
from .parting import grouped

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

HELD = 256 * 2**20  # bytes of samples that a rank holds in memory; more are read as they are asked for
SKIP = "mend or remove it, or take options={'unreadable': 'skip'}"

Item = tuple[Any, int]
"""A file, or another place of one sample, and its label."""


class Lazy:
    """
    Files that are read as they are asked for: pairs of a tensor and a label.

    Parameters
    ----------
    items
        Files and labels.
    shape, dtype
        Of one sample, as NumPy has them.
    """

    def __init__(self, items: Sequence[Item], shape: tuple[int, ...], dtype: str) -> None:
        self.items, self.shape, self.dtype = list(items), shape, dtype
        self.targets = [label for _, label in items]

    def read(self, path: Any) -> np.ndarray:
        """One sample."""
        raise NotImplementedError

    @property
    def bytes(self) -> int:
        """Of all samples in memory."""
        return len(self.items) * math.prod(self.shape) * (1 if self.dtype == "uint8" else 4)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        import torch

        path, label = self.items[index]
        try:
            return torch.from_numpy(self.read(path).copy()), label
        except Exception as error:  # decoders raise whatever a wrong byte leads them to
            raise ValueError(f"{path} can't be read: {why(error)}; {SKIP}") from None

    def whole(self) -> dict[str, str]:
        """Read all once; by file why it can't be, and those are then left out."""

        def tried(item: Item) -> str:
            try:
                self.read(item[0])
            except Exception as error:
                return why(error)
            return ""

        with ThreadPoolExecutor(host.cores()) as pool:
            wrong = [*pool.map(tried, self.items)]
        lost = {str(path): reason for (path, _), reason in zip(self.items, wrong, strict=True) if reason}
        self.items = [item for item, reason in zip(self.items, wrong, strict=True) if not reason]
        self.targets = [label for _, label in self.items]
        return lost


def loaded(parts: Mapping[str, Lazy], kind: str, path: str, skip: bool) -> tuple[dict[str, Any], dict[str, str]]:
    """
    Parts as tensors where all of them fit into memory, else as they are.

    What can't be read whole is refused, or left out where it is to be skipped: the second result says why, by file. Of
    parts that stay as they are only then all is read, once.
    """
    lost: dict[str, str] = {}
    if sum(part.bytes for part in parts.values()) > HELD:
        for part in parts.values():
            lost |= part.whole() if skip else {}
        return {**parts}, lost
    return {name: _held(part, kind, path, lost if skip else None) for name, part in parts.items()}, lost


def _held(several: Lazy, kind: str, path: str, lost: dict[str, str] | None) -> tuple[Tensor, Tensor]:
    """All samples in memory, x (N, ...) and y (N,); those that can't be read are put into `lost`, or refused."""
    import numpy as np
    import torch

    x, good = np.empty((len(several), *several.shape), several.dtype), np.ones(len(several), bool)

    def decode(place: int) -> None:
        file = several.items[place][0]
        try:
            x[place] = several.read(file)
        except Exception as error:
            if lost is None:
                raise refused(kind, path, f"{file} can't be read: {why(error)}; {SKIP}") from None
            lost[str(file)], good[place] = why(error), False

    with ThreadPoolExecutor(host.cores()) as pool:  # decoders run without Python's lock
        [*pool.map(decode, range(len(several)))]
    y: Any = np.array(several.targets, np.int64)
    if not good.all():
        x, y = x[good], y[good]
        several.items = [item for item, whole in zip(several.items, good, strict=True) if whole]
    return torch.from_numpy(x), torch.from_numpy(y)


@dataclass(frozen=True)
class Found:
    """The images, or sounds, below a folder."""

    files: Files
    parts: dict[str, list[Item]]
    """By part ("train" alone where the folder has none) files and labels, without those that can't be read."""
    classes: list[str]
    heads: dict[str, Any]
    """What was seen of those that were looked into, by name."""
    unreadable: dict[str, str]
    others: tuple[str, ...]
    """Files that are no such, by their names."""
    checked: str
    """How many were looked into, where not all were."""

    @classmethod
    def of(
        cls,
        kind: str,
        listed: Files,
        what: str,
        endings: tuple[str, ...],
        head: Callable[[Path], Any],
        remedy: str,
        by_name: bool = False,
        most: int = 0,
    ) -> Self:
        """
        What there is of files with these endings, which a sentence calls `what`.

        `head` says what is seen of a file, or in a text why it can't be read; at `most` so many are looked into. Where
        they are told apart `by_name`, its part before a "_" is the class, else the folder.
        """
        path = str(listed.path)
        named = [name for name in listed.names if name.lower().endswith(endings)]
        if not named:
            raise refused(kind, path, f"there are no {what} in it ({', '.join(endings)}){listed.instead}")
        labelled = grouped(named, whole=by_name)
        if by_name:
            first = {name: PurePosixPath(name).stem.split("_")[0] for name in named}
            labelled = {part: [(name, first[name]) for name, _ in items] for part, items in labelled.items()}
        check(kind, path, named, {part: [label for _, label in items] for part, items in labelled.items()}, remedy)
        every = [name for items in labelled.values() for name, _ in items]
        looked = every[:: -(-len(every) // most)] if most else every
        heads = {name: head(listed.folder / name) for name in looked}
        unreadable = {name: seen for name, seen in heads.items() if isinstance(seen, str)}
        if len(unreadable) == len(heads):
            told = [f"{name} ({why})" for name, why in unreadable.items()]
            raise refused(kind, path, f"none of its {len(every):,} {what} can be read: {some(told)}")
        classes = sorted({label for _, label in labelled["train"]})
        parts = {
            part: [(listed.folder / name, classes.index(label)) for name, label in items if name not in unreadable]
            for part, items in labelled.items()
        }
        seen = {name: one for name, one in heads.items() if name not in unreadable}
        others = tuple(name for name in listed.names if not name.lower().endswith(endings))
        checked = f"{len(looked):,} of {len(every):,} files" if len(looked) < len(every) else ""
        return cls(listed, parts, classes, seen, unreadable, others, checked)


def about(parts: Mapping[str, Lazy], folder: Path) -> dict[str, dict[str, list[str]]]:
    """By part the file of each sample, as it lies below a folder."""
    return {name: {"file": [str(path.relative_to(folder)) for path, _ in part.items]} for name, part in parts.items()}


def remarks(unreadable: Mapping[str, str]) -> tuple[str, ...]:
    """What a run tells of files that were skipped."""
    told = [f"{name} ({reason})" for name, reason in sorted(unreadable.items())]
    files = "1 file that can't be read was" if len(told) == 1 else f"{len(told):,} files that can't be read were"
    return (f"{files} left out: {some(told)}",) if told else ()


def refuse(kind: str, path: str, unreadable: Mapping[str, str]) -> None:
    """Refuse a folder in which files can't be read, with their names."""
    if unreadable:
        told = [f"{name} ({reason})" for name, reason in unreadable.items()]
        files = "1 file" if len(told) == 1 else f"{len(told):,} files"
        raise refused(kind, path, f"{files} can't be read: {some(told)}; {SKIP}")


def check(kind: str, path: str, names: Sequence[str], labels: Mapping[str, Sequence[str]], remedy: str) -> None:
    """Refuse labels, by part, that leave nothing to learn; `names` are all files, whatever their place."""
    if not labels.get("train"):
        raise refused(kind, path, f"its {len(names):,} {kind} files lie in no folder of a class; {remedy}")
    classes = {*labels["train"]}
    if len(classes) == 1:
        raise refused(kind, path, f"all are of one class, {classes.pop()!r}; {remedy}")
    for part, several in labels.items():
        if strange := {*several} - classes:
            raise refused(kind, path, f"{part} has the class {sorted(strange)[0]!r}, which train lacks")


def why(error: Exception) -> str:
    """Why a file can't be read, in a few words."""
    text = " ".join(str(error).split())
    return (text[:1].lower() + text[1:80]) or type(error).__name__
