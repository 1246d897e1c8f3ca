"""Sets of shards are written: samples in random order, an index beside them, all of it or nothing."""

from __future__ import annotations

import contextlib
import hashlib
import io
import secrets
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ...errors import SpecError, needs
from ...files import write_json
from ..base import Data, length
from . import parquet
from .index import BLOCK, NAME, Block, Index, Shard, to_dict
from .places import UNFINISHED
from .sources import filesystem

ABOUT = (
    "classes",
    "mean",
    "std",
    "unit",
    "vocabulary",
    "tokens",
    "pieces",
    "tokenizer",
    "sample_rate",
    "task",
    "reworded",
)
"""What an index keeps of Data, beside `about`."""


def write(
    data: Data,
    dest: str,
    megabytes: int = 32,
    seed: int = 0,
    columns: bool = False,
    told: Callable[[str], None] = print,
) -> Index:
    """
    Write a data set as shards.

    Arrays are kept as they are, in `.npy`, which cost no decoding; labels as `.cls`, texts as `.txt`. Training samples
    are shuffled.

    Parameters
    ----------
    data
        Of pairs (x, y), of which y may be a dict, or of dicts; of arrays, numbers and texts.
    dest
        A new folder, or a prefix of a store as fsspec knows it, such as s3://bucket/digits. An index, put last, makes
        it a set.
    megabytes
        Of a shard, about.
    seed
        Of the order.
    columns
        Whether to write Parquet files instead of tars.
    told
        Is told of each shard.

    Raises
    ------
    SpecError
        If there is something at `dest`, or samples are of another form.
    """
    begin: Begin = Columns if columns else partial(Tar, digits=len(str(max(len(data.classes) - 1, 0))))
    index = Index({}, {name: getattr(data, name) for name in ABOUT})
    with _staged(dest) as (folder, sent):
        for split in ("train", "val", "test"):
            part, shards = getattr(data, split), list[Shard]()
            order = _order(length(part), seed if split == "train" else None)
            for shard in _shards(_samples(part, order), folder / split, megabytes, begin):
                told(f"{shard.file}: {shard.samples:,} samples, {shard.bytes / 1e6:,.1f} MB")
                sent(shard.file)
                shards.append(shard)
            if shards:
                index.splits[split] = shards
            if known := data.about.get(split):
                told_of = {name: [_plain(values[place]) for place in order] for name, values in known.items()}
                index.about.setdefault("about", {})[split] = told_of
        write_json(folder / NAME, to_dict(index, ""), indent=None)
        sent(NAME)
    return index


def _order(count: int, seed: int | None) -> list[int]:
    """The order of so many samples, random where there is a seed."""
    import torch

    generator = torch.Generator().manual_seed(seed or 0)
    return [*range(count)] if seed is None else torch.randperm(count, generator=generator).tolist()


def _plain(value: Any) -> Any:
    """What is known of a sample as JSON has it."""
    value = value.item() if hasattr(value, "item") else value
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def _samples(split: Any, order: list[int]) -> Iterator[Any]:
    """Samples of a split in an order."""
    for place in order:
        yield (split[0][place], split[1][place]) if isinstance(split, tuple) else split[place]


def _shards(samples: Iterator[Any], place: Path, megabytes: int, begin: Begin) -> Iterator[Shard]:
    """Files of about so many megabytes, each as it is whole."""
    number, shard = 0, None
    for count, sample in enumerate(samples):
        shard = shard or begin(place.with_name(f"{place.name}-{number:06d}"))
        shard.add(f"{count:09d}", _named(sample))
        if shard.bytes >= megabytes * 1_000_000:
            yield shard.close()
            number, shard = number + 1, None
    if shard:
        yield shard.close()


def _named(sample: Any) -> dict[str, Any]:
    """A sample by leaf: x and y of a pair, whose y may have names of its own."""
    if isinstance(sample, (tuple, list)) and len(sample) == 2:
        if isinstance(sample[1], Mapping):
            return {"x": sample[0], **{f"y.{name}": value for name, value in _named(sample[1]).items()}}
        return {"x": sample[0], "y": sample[1]}
    if isinstance(sample, Mapping) and all(isinstance(name, str) and name.isidentifier() for name in sample):
        return dict(sample)
    raise SpecError(f"a sample is a {type(sample).__name__}; shards are made of pairs (x, y), and of dicts with names")


def _array(name: str, value: Any) -> Any:
    """A leaf's numbers as an array."""
    import numpy as np

    array = np.asarray(value)
    if array.dtype.hasobject or array.dtype.kind not in "biufc":
        raise SpecError(
            f"a sample's {name} is a {type(value).__name__}; shards hold arrays, numbers and texts: give samples "
            "that are dicts of these by name"
        )
    return array


class Tar:
    """A shard that is written as a tar."""

    def __init__(self, path: Path, digits: int) -> None:
        self._path, self._digits = path.with_suffix(".tar"), digits
        self._blocks, self._count = list[Block](), 0
        self._tar = tarfile.open(self._path, "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115  # until close
        self._begin = 0

    @property
    def bytes(self) -> int:
        """By now."""
        return self._tar.offset

    def add(self, key: str, sample: dict[str, Any]) -> None:
        """One more."""
        for part, body in _parts(sample, self._digits).items():
            entry = tarfile.TarInfo(f"{key}.{part}")
            entry.size = len(body)
            self._tar.addfile(entry, io.BytesIO(body))
        self._count += 1
        if self._tar.offset - self._begin >= BLOCK:
            self._end()

    def _end(self) -> None:
        self._blocks.append((self._begin, self._tar.offset, self._count))
        self._begin, self._count = self._tar.offset, 0

    def close(self) -> Shard:
        """It is whole."""
        if self._count:
            self._end()
        self._tar.close()
        return _shard(self._path, self._blocks)


def _parts(sample: dict[str, Any], digits: int) -> dict[str, bytes]:
    """A sample's files by extension, as WebDataset names them; labels of so many digits, so that all are laid alike."""
    import numpy as np

    found, pair = {}, set(sample) == {"x", "y"}
    label = pair and not isinstance(sample["y"], str) and _array("y", sample["y"]).dtype.kind in "iu"
    label = label and not np.ndim(sample["y"])
    for name, value in sample.items():
        if label and name == "y":
            found["cls"] = f"{int(value):0{digits}}".encode()
        elif isinstance(value, str):
            found[f"{name}.txt"] = value.encode()
        else:
            file = io.BytesIO()
            np.save(file, _array(name, value))
            found["npy" if label else f"{name}.npy"] = file.getvalue()
    return found


class Columns:
    """A shard that is written as a Parquet file, a megabyte a row group."""

    def __init__(self, path: Path) -> None:
        needs("a Parquet file", "pyarrow")
        self._path = path.with_suffix(".parquet")
        self._writer: Any = None
        self._rows: list[dict[str, Any]] = []
        self._held = self.bytes = self._at = 0
        self._blocks: list[Block] = []

    def add(self, key: str, sample: dict[str, Any]) -> None:
        """One more."""
        row = {name: v if isinstance(v, str) else _array(name, v) for name, v in sample.items()}
        size = sum(len(v.encode()) if isinstance(v, str) else v.nbytes for v in row.values())
        self._rows.append(row)
        self._held, self.bytes = self._held + size, self.bytes + size
        if self._held >= BLOCK:
            self._end()

    def _end(self) -> None:
        from pyarrow.parquet import ParquetWriter

        table = parquet.table(self._rows)
        if self._writer is None:
            self._writer = ParquetWriter(self._path, table.schema, compression="none", use_dictionary=False)
        self._writer.write_table(table, row_group_size=len(self._rows))
        end = self._at + len(self._rows)
        self._blocks.append((self._at, end, len(self._rows)))
        self._rows, self._held, self._at = [], 0, end

    def close(self) -> Shard:
        """It is whole."""
        if self._rows:
            self._end()
        self._writer.close()
        return _shard(self._path, self._blocks)


def _shard(path: Path, blocks: list[Block]) -> Shard:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Shard(path.name, path.stat().st_size, blocks, digest)


@contextlib.contextmanager
def _staged(dest: str) -> Iterator[tuple[Path, Callable[[str], None]]]:
    """A folder to write in, and what is called with the name of a file that is whole: all is there, or none is."""
    if "://" in dest:
        yield from _uploaded(dest)
        return
    path = Path(dest).expanduser().absolute()
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise SpecError(f"{dest!r} is there already; give a new folder, or remove it first")
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    draft.mkdir()
    try:
        yield draft, lambda name: None
        if path.exists():
            path.rmdir()
        draft.rename(path)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _uploaded(dest: str) -> Iterator[tuple[Path, Callable[[str], None]]]:
    """Each file goes up as it is whole, the index last; a mark tells of what was not finished."""
    files, root = filesystem(dest), dest.rstrip("/")
    if files.exists(f"{root}/{NAME}") or files.find(root):
        raise SpecError(f"{dest!r} holds objects already; give a new prefix, or remove them first")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)

        def send(name: str) -> None:
            files.put_file(str(folder / name), f"{root}/{name}")
            (folder / name).unlink()

        files.pipe_file(f"{root}/{UNFINISHED}", b"")
        yield folder, send
        files.rm_file(f"{root}/{UNFINISHED}")


Begin = Callable[[Path], Tar | Columns]
"""Begins a shard at a path without its ending."""
