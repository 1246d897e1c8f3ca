"""Samples of shards by index; of their blocks those that are in use are in memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

from ...batches import over
from . import parquet
from .blocks import Block, read
from .index import Shard
from .ordering import cut, windowed
from .sources import Source

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

WINDOW = 32 << 20  # bytes of the blocks that an epoch's order uses at a time
LEAST = 4  # such blocks, however large they are
ASKED = 8  # blocks that are fetched beside each other over a network
MANY = 100  # blocks of which a tenth is held out whole, so that to validate does not take reading all of them
OPEN = 8  # Parquet files that are kept open


class Shards:
    """
    A map-style Dataset of the samples of shards: pairs (x, y), of which y may be a dict, or dicts.

    Parameters
    ----------
    shards
        Of one split.
    source
        Reads them.
    tenth
        None takes all samples; True those of a tenth that is held out for validation, False the others.
    seed
        Draws which are held out.

    Attributes
    ----------
    far : bool
        Whether reading waits for a network.
    """

    def __init__(self, shards: Sequence[Shard], source: Source, tenth: bool | None = None, seed: int = 0) -> None:
        import torch

        self.shards, self.source, self.far = list(shards), source, source.far
        self._tenth, self._seed = tenth, seed
        self._of = torch.tensor([(s, b) for s, shard in enumerate(shards) for b in range(len(shard.blocks))]).view(
            -1, 2
        )
        self._whole = whole = torch.tensor([n for shard in shards for *_, n in shard.blocks], dtype=torch.int64)
        self._held = held_out(whole, seed)
        self._counts = whole if tenth is None else self._held if tenth else whole - self._held
        self._ends = self._counts.cumsum(0)
        blocks = max(len(whole), 1)
        self._window = max(LEAST, WINDOW * blocks // max(sum(shard.bytes for shard in shards), 1))
        self._blocks: OrderedDict[int, tuple[Block, np.ndarray | None]] = OrderedDict()
        self._files: OrderedDict[int, Any] = OrderedDict()

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, index: int) -> Any:
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return self.__getitems__([index % len(self)])[0]

    def __getitems__(self, indices: list[int]) -> list[Any]:
        """Several samples; what lies in one block is read once."""
        blocks, places = self._placed(indices)
        numbers = blocks.tolist()
        held = self._fetched(dict.fromkeys(numbers))
        found = []
        for number, place in zip(numbers, places.tolist(), strict=True):
            block, kept = held[number]
            found.append(over(tensor, block.sample(place if kept is None else kept[place])))
        return found

    def batch(self, indices: list[int]) -> tuple[Tensor, Tensor] | None:
        """
        Several pairs as x (B, ...) and y (B, ...), where the blocks hold arrays of one form; else None.

        It takes a fraction of the time that a pair for each sample does.
        """
        import numpy as np
        import torch

        numbers, places = (part.numpy() for part in self._placed(indices))
        order = numbers.argsort(kind="stable")
        chosen, begins = np.unique(numbers[order], return_index=True)
        held = self._fetched(dict.fromkeys(chosen.tolist()))
        parts: list[tuple[np.ndarray, np.ndarray]] = []
        for (block, kept), rows in zip(held.values(), np.split(places[order], begins[1:]), strict=True):
            if block.arrays is None:
                return None
            rows = rows if kept is None else kept[rows]
            parts.append((block.arrays[0][rows], block.arrays[1][rows]))
        if len({(part.dtype, part.shape[1:], other.dtype, other.shape[1:]) for part, other in parts}) != 1:
            return None
        back = order.argsort()
        x, y = (torch.from_numpy(np.concatenate(part)[back]) for part in zip(*parts, strict=True))
        return x, y

    def _placed(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        """Of each sample its block, and its place among those there that are of this part, (B,) each."""
        import torch

        asked = torch.tensor(indices)
        blocks = torch.searchsorted(self._ends, asked, right=True)
        return blocks, asked - (self._ends - self._counts)[blocks]

    def order(self, generator: torch.Generator, among: Sequence[int] | None = None) -> Iterator[Tensor]:
        """All samples in an epoch's order, chunk by chunk; of those `among` some, their places there."""
        import torch

        if among is None:
            return windowed(self._counts, self._window, generator)
        blocks = torch.searchsorted(self._ends, torch.as_tensor(among), right=True)
        counts, places = blocks.bincount(minlength=len(self._ends)), blocks.argsort(stable=True)
        return (places[chunk] for chunk in windowed(counts, self._window, generator))

    @property
    def places(self) -> list[int]:
        """Where its samples stand among all those of its shards."""
        found: list[int] = []
        for number, (count, end) in enumerate(zip(self._whole.tolist(), self._whole.cumsum(0).tolist(), strict=True)):
            kept = self._kept(number, count)
            found += range(end - count, end) if kept is None else (end - count + kept).tolist()
        return found

    @property
    def sample_rate(self) -> int:
        """Samples a second of sounds, as the first sample has it; 0 where they are none."""
        return self._fetched({0: None})[0][0].sample_rate

    def workers(self, spare: int, busy: bool) -> int:
        """How many processes are to read where so many cores are spare, which are `busy` where they train, too."""
        if self.far:
            return max(spare, 1)  # training goes on while the network is waited for
        # What only is to be copied takes a few microseconds a sample; a process would take more from training.
        return 0 if busy and self._fetched({0: None})[0][0].decoded else spare

    def _fetched(self, numbers: dict[int, None]) -> dict[int, tuple[Block, np.ndarray | None]]:
        """Blocks by number; those last used stay in memory."""
        missing = [number for number in numbers if number not in self._blocks]
        if len(missing) > 1 and self.far:
            with ThreadPoolExecutor(ASKED) as pool:
                self._blocks |= zip(missing, pool.map(self._read, missing), strict=True)
        else:
            self._blocks |= {number: self._read(number) for number in missing}
        for number in numbers:
            self._blocks.move_to_end(number)
        found = {number: self._blocks[number] for number in numbers}
        while len(self._blocks) > self._window + 1:
            self._blocks.popitem(last=False)
        return found

    def _read(self, number: int) -> tuple[Block, np.ndarray | None]:
        """A block, and which of its samples are of this part."""
        place, block = self._of[number].tolist()
        shard = self.shards[place]
        return read(shard, block, self.source, partial(self._opened, place)), self._kept(number, shard.blocks[block][2])

    def _kept(self, number: int, count: int) -> np.ndarray | None:
        """Places in a block of the samples that belong to this part; None of all."""
        import torch

        if self._tenth is None:
            return None
        generator = torch.Generator().manual_seed(hash((self._seed, number)) % 2**63)
        order, held = torch.randperm(count, generator=generator), int(self._held[number])
        return (order[:held] if self._tenth else order[held:]).sort().values.numpy()

    def _opened(self, place: int) -> Any:
        if place not in self._files:
            shard = self.shards[place]
            self._files[place] = parquet.opened(shard.file, shard.bytes, self.source)
        self._files.move_to_end(place)
        while len(self._files) > OPEN:
            self._files.popitem(last=False)
        return self._files[place]


def ordered(dataset: Any, seed: int, size: int) -> Iterator[Tensor] | None:
    """An epoch's order of shards, or of a Subset of them, so many samples at a time; None of other data."""
    import torch

    part = type(dataset) is torch.utils.data.Subset
    whole = dataset.dataset if part else dataset
    if not isinstance(whole, Shards):
        return None
    return cut(whole.order(torch.Generator().manual_seed(seed), dataset.indices if part else None), size)


def held_out(counts: Tensor, seed: int) -> Tensor:
    """Of each block's samples, (blocks,), how many are held out: a tenth, or all of a tenth of many blocks."""
    import torch

    if len(counts) < MANY:
        ends = counts.cumsum(0)
        return ends // 10 - (ends - counts) // 10
    chosen = torch.randperm(len(counts), generator=torch.Generator().manual_seed(seed))[: len(counts) // 10]
    return torch.zeros_like(counts).index_copy(0, chosen, counts[chosen])


def tensor(value: Any) -> Any:
    """An array as a tensor: the byte order is this machine's, and float64 is left to who makes batches."""
    import numpy as np
    import torch

    if not isinstance(value, np.ndarray):
        return value
    if not value.dtype.isnative:
        value = value.astype(value.dtype.newbyteorder("="))
    return torch.from_numpy(value)
