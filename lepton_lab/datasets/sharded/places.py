"""What an address of shards leads to: `train-{000..011}.tar`, a folder or prefix, one shard, or an index."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import SpecError
from ..paths.files import files
from .sources import Gone, Source

SHARDS = (".tar", ".parquet", ".pq")
PACKED = (".tar.gz", ".tgz", ".tar.zst", ".tar.bz2", ".tar.xz")
UNFINISHED = "unfinished"
"""An object that is there while a set is written to a store."""
MOST = 1_000_000  # shards that braces may stand for
SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val"}
SPLITS |= {"test": "test", "testing": "test", "eval": "test"}
"""By what the name of a file, or of a folder, begins with."""
BRACES = re.compile(r"\{([^{}]*)\}")
RANGE = re.compile(r"(\d+)\.\.(\d+)")


@dataclass
class Places:
    """The files of a set."""

    folder: str
    """The address that an index names files from, with a slash at its end."""
    splits: dict[str, list[str]]
    """By split the shards, where there is no index."""
    index: Any = None
    """What the index file holds; None where there is none."""


def find(address: str, source: Source) -> Places:
    """The files that an address leads to; SpecError where there are none."""
    if braces := BRACES.search(address):
        return Places("", _split(expanded(address), address[: address.rfind("/", 0, braces.start()) + 1]))
    if address.endswith(PACKED):
        raise SpecError(f"dataset='shards:{address}': is packed, where a tar is read from its middle; unpack it first")
    if address.endswith(SHARDS):
        return Places("", {"train": [address]})
    folder = address.removesuffix("index.json").rstrip("/") + "/"
    if "://" not in address and not Path(address).exists():
        files("shards", address)  # which says what is there
    if (index := _index(f"{folder}index.json", source)) is not None:
        return Places(folder, {}, index)
    return Places(folder, _split(_listed(folder, address, source), folder))


def expanded(address: str) -> list[str]:
    """The names that braces stand for, as shells have them: `{000..011}` counts, with zeros; `{a,b}` chooses."""
    texts = BRACES.split(address)
    choices = [_choices(text, address) if place % 2 else [text] for place, text in enumerate(texts)]
    count = 1
    for some in choices:
        count *= len(some)
    if count > MOST:
        raise SpecError(f"dataset='shards:{address}': its braces stand for {count:,} shards, more than {MOST:,}")
    return ["".join(parts) for parts in itertools.product(*choices)]


def _choices(text: str, address: str) -> list[str]:
    if span := RANGE.fullmatch(text):
        first, last = int(span[1]), int(span[2])
        if last < first or last - first >= MOST:
            raise SpecError(
                f"dataset='shards:{address}': {{{text}}} must count upwards, and to at most {MOST:,} shards"
            )
        width = len(span[1]) if span[1].startswith("0") else 0
        return [f"{number:0{width}}" for number in range(first, last + 1)]
    if "," not in text:
        raise SpecError(
            f"dataset='shards:{address}': {{{text}}} is no span such as {{000..011}}, and no choice such as {{a,b}}"
        )
    return text.split(",")


def _index(name: str, source: Source) -> Any:
    """What an index holds; None where there is none."""
    try:
        size = source.size(name)
        body = source.read(name, 0, size) if size else b""
    except Gone:
        return None
    try:
        return json.loads(bytes(body)) if body else None
    except ValueError:
        raise SpecError(
            f"dataset: {name} is no index of shards; remove it, and the shards are looked through"
        ) from None


def _listed(folder: str, address: str, source: Source) -> list[str]:
    """The shards below a folder."""
    names = source.names(folder.rstrip("/"))
    if any(name.endswith(f"/{UNFINISHED}") for name in names):
        raise SpecError(f"dataset='shards:{address}': it was not written to its end; remove it, and write it again")
    if found := [name for name in names if name.endswith(SHARDS)]:
        return found
    if packed := [name for name in names if name.endswith(PACKED)]:
        raise SpecError(
            f"dataset='shards:{address}': {packed[0]} is packed; unpack it first, since a tar is read by parts"
        )
    if address.startswith("http"):
        remedy = "name its shards, as in https://host/train-{000..011}.tar, since HTTP lists none"
    else:
        remedy = f"it holds {len(names)} other files" if names else "correct the address"
    raise SpecError(
        f"dataset='shards:{address}': there is neither an index.json nor a .tar or .parquet there; {remedy}"
    )


def _split(files: list[str], folder: str) -> dict[str, list[str]]:
    """Shards by the split that their names begin with, or their folders; all are for training where none does."""
    splits: dict[str, list[str]] = {}
    for file in files:
        *folders, name = file.removeprefix(folder).split("/")[-2:]
        begun = [re.split(r"[^a-z]", part.lower(), maxsplit=1)[0] for part in (name, *folders)]
        splits.setdefault(next((SPLITS[word] for word in begun if word in SPLITS), ""), []).append(file)
    if set(splits) == {""}:
        return {"train": splits[""]}
    if "" in splits or "train" not in splits:
        strange = splits.get("", next(iter(splits.values())))[0]
        raise SpecError(
            f"dataset: of the shards some are named by a split and {strange} is not of train; let names begin with "
            "train, val or test, or give those of training alone"
        )
    return splits
