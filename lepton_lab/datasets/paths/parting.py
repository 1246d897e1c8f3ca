"""Training, validation and test samples: as folders and names say, else dealt out by seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from ..base import HELD_OUT, shuffled

T = TypeVar("T")

PARTS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
"""What folders and files of a part are called, and the part."""


def deal(parts: Mapping[str, Sequence[T]], seed: int) -> dict[str, list[T]]:
    """
    The parts, with what is not given held out of "train" by seed.

    Of "train" alone a tenth is for validation and a tenth for testing; where "test" is given, a tenth for validation;
    where "val" is given, nothing is held out. Fewer than ten samples all stay.
    """
    train = parts["train"]
    wanted = [] if "val" in parts else ["val"] if "test" in parts else ["val", "test"]
    rest, *held = shuffled(len(train), seed, *[HELD_OUT] * len(wanted))
    dealt = {"train": [train[i] for i in rest.tolist()]}
    dealt |= {part: [train[i] for i in index.tolist()] for part, index in zip(wanted, held, strict=True) if len(index)}
    return dealt | {part: [*samples] for part, samples in parts.items() if part != "train"}


def grouped(names: Sequence[str], whole: bool = False) -> dict[str, list[tuple[str, str]]]:
    """
    Files by part and label, of names such as "train/cat/1.png" or "cat/1.png".

    Parameters
    ----------
    names
        With "/" between folders.
    whole
        Whether files may lie in a part without a label, which is then "".

    Returns
    -------
    parts : dict
        By part pairs of a name and its label, which is the first folder below the part. Where no folder is called
        `train` all are of "train". Files that lie above are left out.
    """
    split = any("/" in name and PARTS.get(name.split("/")[0].lower()) == "train" for name in names)
    parts: dict[str, list[tuple[str, str]]] = {}
    for name in names:
        folders = name.split("/")[:-1]
        part = PARTS.get(folders[0].lower(), "") if split and folders else "" if split else "train"
        label = folders[1:2] if split else folders[:1]
        if part and (label or whole):
            parts.setdefault(part, []).append((name, label[0] if label else ""))
    return parts
