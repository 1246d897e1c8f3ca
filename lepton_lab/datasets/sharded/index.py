"""The index of a set: its shards by split, and their blocks; read from beside them, or made by one look at all."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ...errors import SpecError
from ...files import home, read_json, write_json
from . import parquet, tars
from .decoding import LABEL
from .places import Places
from .sources import Gone, Source

FORMAT = 1
NAME = "index.json"
BLOCK = 1 << 20  # bytes of a tar that are read at once, where samples are not larger
ASKED = 16  # shards that are looked at beside each other

Block = tuple[int, int, int]
"""Where it begins and ends, and its samples: bytes of a tar, rows of a Parquet file."""


@dataclass
class Shard:
    """A file of a set."""

    file: str
    """Its address in full; in an index on disk from the folder of that."""
    bytes: int
    blocks: list[Block]
    sha256: str = ""

    @property
    def samples(self) -> int:
        """How many it holds."""
        return sum(block[2] for block in self.blocks)

    @property
    def kind(self) -> str:
        """Its format."""
        return "parquet" if self.file.endswith(parquet.KINDS) else "tar"


@dataclass
class Index:
    """What is known of a set without reading it."""

    splits: dict[str, list[Shard]]
    about: dict[str, Any] = field(default_factory=dict)
    """What Data has of it: classes, mean, std, vocabulary, tokens, sample_rate; `labels`, the largest label + 1."""


def load(places: Places, source: Source) -> Index:
    """
    The index beside the shards, else the one that is kept of them, which is made where there is none.

    Raises
    ------
    SpecError
        If a shard is missing, cut short, or none, by its name.
    """
    if places.index is not None:
        index = of_dict(places.index, places.folder)
        _measured(index, source)
        return index
    told = {split: _stamps(files, source) for split, files in places.splits.items()}
    digest = hashlib.sha256(json.dumps([FORMAT, BLOCK, told]).encode()).hexdigest()[:24]
    path = home() / "shards" / f"{digest}.json"
    with _alone(path):
        if (kept := read_json(path)) is not None:
            return of_dict(kept, "")
        index = scanned(told, source)
        with contextlib.suppress(OSError):  # a disk that is full: it is made anew next time
            write_json(path, to_dict(index, ""), indent=None)
        return index


def to_dict(index: Index, folder: str) -> dict[str, Any]:
    """As JSON has it, with files named from a folder."""
    splits = {
        split: [
            {**asdict(shard), "file": shard.file.removeprefix(folder), "samples": shard.samples} for shard in shards
        ]
        for split, shards in index.splits.items()
    }
    return {"format": FORMAT, "about": index.about, "splits": splits}


def of_dict(value: Any, folder: str) -> Index:
    """As `to_dict` gave it; SpecError of anything else."""
    try:
        if value["format"] != FORMAT:
            raise SpecError(
                f"dataset: the index of {folder} has format {value['format']}, and {FORMAT} is read; write it again: "
                "lepton-lab data shard"
            )
        splits = {
            split: [
                Shard(f"{folder}{s['file']}", s["bytes"], [tuple(b) for b in s["blocks"]], s["sha256"]) for s in shards
            ]
            for split, shards in value["splits"].items()
        }
    except (KeyError, TypeError, AttributeError):
        raise SpecError(
            f"dataset: {folder}{NAME} is no index of shards; remove it, and the shards are looked through"
        ) from None
    return Index(splits, value["about"])


def scanned(told: dict[str, list[tuple[str, int, str]]], source: Source) -> Index:
    """The index of shards that have none, by looking through each."""
    index, labels = Index({}), 0
    with ThreadPoolExecutor(ASKED if source.far else 1) as pool:
        for split, files in told.items():
            found = list(pool.map(lambda file: _scanned(file[0], file[1], source), files))
            index.splits[split] = [shard for shard, _ in found]
            labels = max([labels, *(most for _, most in found)])
    index.about["labels"] = labels
    return index


def _scanned(file: str, size: int, source: Source) -> tuple[Shard, int]:
    """A shard, and the largest label in it + 1."""
    if file.endswith(parquet.KINDS):
        blocks, labels = parquet.scan(file, size, source)
        return Shard(file, size, blocks), labels
    if source.read(file, 0, 2) == tars.GZIP:
        raise SpecError(f"dataset: {file} is packed, where a tar is read from its middle; unpack it: gunzip {file}")
    scan, blocks, labels = tars.Scan(lambda begin, end: source.read(file, begin, end)), list[Block](), 0
    begin = end = count = 0
    try:
        for members in tars.samples(tars.members(scan.get, 0, size)):
            begin, end, count = (begin if count else members[0].start), members[-1].end, count + 1
            labels = max([labels, *(_label(scan, file, member) + 1 for member in members if member.part == LABEL)])
            if end - begin >= BLOCK:
                blocks.append((begin, end, count))
                count = 0
    except tars.Damaged as error:
        raise SpecError(f"dataset: the shard {file} can't be used: {error}; copy it anew") from None
    if count:
        blocks.append((begin, end, count))
    return Shard(file, size, blocks), labels


def _label(scan: tars.Scan, file: str, member: tars.Member) -> int:
    text = bytes(scan.get(member.begin, member.size))
    try:
        label = int(text)
    except ValueError:
        label = -1
    if label < 0:
        raise SpecError(f"dataset: {member.key}.cls in {file} holds {text[:20]!r}; labels are whole numbers from 0 up")
    return label


def _stamps(files: list[str], source: Source) -> list[tuple[str, int, str]]:
    """Of each file its size and what tells it from another of its name."""
    with ThreadPoolExecutor(ASKED if source.far else 1) as pool:
        return list(pool.map(lambda file: (file, _size(file, source), source.stamp(file)), files))


def _size(file: str, source: Source) -> int:
    try:
        return source.size(file)
    except Gone:
        raise SpecError(f"dataset: there is no shard {file}; correct the address, or copy it there") from None


def _measured(index: Index, source: Source) -> None:
    """Refuse shards that are shorter than the index has them: by name, and with the first sample that is missing."""
    shards = [shard for shards in index.splits.values() for shard in shards]
    with ThreadPoolExecutor(ASKED if source.far else 1) as pool:
        sizes = list(pool.map(lambda shard: _size(shard.file, source), shards))
    for shard, size in zip(shards, sizes, strict=True):
        if size < shard.bytes:
            whole = 0 if shard.kind == "parquet" else sum(count for _, end, count in shard.blocks if end <= size)
            raise SpecError(
                f"dataset: the shard {shard.file} is cut short: it has {size:,} of {shard.bytes:,} bytes, and its "
                f"samples from number {whole:,} on may be lost; copy it anew"
            )
        if size > shard.bytes:
            raise SpecError(
                f"dataset: the shard {shard.file} is not the one of the index: it has {size:,} bytes, and the index "
                f"{shard.bytes:,}; remove {NAME}, or write both again"
            )


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One process looks, and the others wait for what it found."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
