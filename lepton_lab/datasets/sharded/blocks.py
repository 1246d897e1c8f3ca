"""What is read of a shard at once: samples of a tar, or of a Parquet file's row group, decoded one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ...errors import SpecError
from . import alike, parquet, tars
from .decoding import Unreadable, decode, named, pair, rate, sample
from .index import Shard
from .sources import Gone, Source

if TYPE_CHECKING:
    import numpy as np


class Members:
    """
    A block of a tar: so many samples in so many bytes.

    Parameters
    ----------
    body
        What was read of it.
    count, size
        Samples and bytes that it has by the index.
    file, first
        Its shard, and the number of its first sample there.
    """

    def __init__(self, body: bytearray, count: int, size: int, file: str, first: int) -> None:
        self._file, self._first, self._body = file, first, memoryview(body)
        import numpy as np

        self._samples: list[tars.Sample] = []
        try:
            self._pairs = alike.pairs(body, count) if len(body) == size else None
            if self._pairs is not None:
                self._labels = np.asarray(self._pairs[1])
                return
            self._samples = tars.parts(body)
            why = "its bytes end too soon" if len(body) < size else "it holds others than its index has"
        except tars.Damaged as error:
            why = str(error)
        if len(self._samples) != count or len(body) < size:
            raise SpecError(
                f"dataset: the shard {file} can't be used from sample {first + len(self._samples):,} on: {why}; "
                "copy it anew"
            )

    @property
    def decoded(self) -> bool:
        """Whether a sample takes no more than to be copied."""
        return self._pairs is not None

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray] | None:
        """All x and all y, (count, ...), where they lie so; else None."""
        return self._pairs and (self._pairs[0], self._labels)

    def sample(self, number: int) -> Any:
        """One of them, decoded."""
        if self._pairs is not None:
            return self._pairs[0][number], self._pairs[1][number]
        key, parts = self._samples[number]
        values = {part: self._decoded(number, key, part, *where) for part, where in parts.items()}
        if both := pair(values):
            return values[both[0]], values[both[1]]
        return sample({named(part): value for part, value in values.items()})

    @property
    def sample_rate(self) -> int:
        """As of Shards."""
        parts = self._samples[0][1].items() if self._samples else ()
        return max((rate(part, self._body[begin : begin + size]) for part, (begin, size) in parts), default=0)

    def _decoded(self, number: int, key: str, part: str, begin: int, size: int) -> Any:
        try:
            return decode(part, self._body[begin : begin + size])
        except Unreadable as error:
            raise SpecError(
                f"dataset: sample {self._first + number:,} of the shard {self._file} ({key}) is unreadable: {error}"
            ) from None


class Rows:
    """A row group of a Parquet file, and what gives a row's value of each column."""

    sample_rate = 0

    def __init__(self, columns: dict[str, Callable[[int], Any]]) -> None:
        self._columns = columns
        self.decoded = not any(isinstance(column, parquet.Pictures) for column in columns.values())
        self._pair = parquet.paired(list(self._columns))
        self.arrays = self._arrays()
        """As of Members."""

    def _arrays(self) -> tuple[np.ndarray, np.ndarray] | None:
        whole = [getattr(self._columns[name], "whole", None) for name in self._pair or ()]
        x, y = whole or (None, None)
        return None if x is None or y is None or x.dtype == object or y.dtype == object else (x, y)

    def sample(self, number: int) -> Any:
        """One of them."""
        if self._pair:
            return tuple(self._columns[name](number) for name in self._pair)
        return sample({name: value(number) for name, value in self._columns.items()})


Block = Members | Rows


def read(shard: Shard, block: int, source: Source, opened: Callable[[], Any]) -> Block:
    """
    A block of a shard; SpecError of one that is damaged, with the first sample of it that is lost.

    `opened` gives a Parquet file.
    """
    begin, end, count = shard.blocks[block]
    try:
        if shard.kind == "parquet":
            return Rows(parquet.columns(opened(), block, shard.file, begin))
        before = sum(count for *_, count in shard.blocks[:block])
        return Members(source.read(shard.file, begin, end), count, end - begin, shard.file, before)
    except Gone:
        raise SpecError(f"dataset: the shard {shard.file} has gone while it was read") from None


def firsts(shards: Sequence[Shard], source: Source, count: int) -> list[Any]:
    """The first samples of all, decoded, as far as the first block goes."""
    shard = next(shard for shard in shards if shard.blocks)
    block = read(shard, 0, source, lambda: parquet.opened(shard.file, shard.bytes, source))
    return [block.sample(number) for number in range(min(count, shard.blocks[0][2]))]
