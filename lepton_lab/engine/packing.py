"""Batches on their way from a loading process: all their tensors in one piece of shared memory."""

from __future__ import annotations

import mmap
import pickle
from dataclasses import dataclass
from multiprocessing.reduction import ForkingPickler
from typing import TYPE_CHECKING, Any, NamedTuple

from ..batches import over
from ..errors import SpecError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

ALIGNED = 64  # bytes that a tensor's place is a multiple of
SLOT = 2**21  # bytes of a slot: what is larger takes memory of its own


@dataclass(frozen=True)
class Place:
    """Where a tensor lies in the memory."""

    begin: int
    dtype: torch.dtype
    shape: torch.Size


class Slots:
    """
    Memory that a process shares with those forked from it later, each of which fills its slots by turns.

    To hand a descriptor of other memory over takes both of them longer than a small batch does, and each waits for the
    other.

    Parameters
    ----------
    processes
        That fill slots.
    each
        Slots of a process: a nest must be taken out of one before so many others of that process are packed.
    """

    def __init__(self, processes: int, each: int) -> None:
        self._each, self._memory = each, mmap.mmap(-1, processes * each * SLOT)  # of which only what is used is there

    def __call__(self, process: int, turn: int) -> Tensor:
        """The slot of a process at a turn, as bytes, (SLOT,)."""
        import torch

        begin = (process * self._each + turn % self._each) * SLOT
        return torch.frombuffer(self._memory, dtype=torch.uint8, count=SLOT, offset=begin)


class Packed(NamedTuple):
    """A nest whose tensors are in one memory."""

    memory: Tensor | None
    """Bytes, (N,); None where it is a slot."""
    nest: bytes
    """Pickled, with a Place for each tensor."""
    slot: tuple[int, int] = (0, 0)
    """Process and turn, where it is one."""


def packed(nest: Any, slots: Slots | None = None, process: int = 0, turn: int = 0) -> Packed:
    """
    A nest as it goes through a queue, in a slot where it fits into one.

    An exception where /dev/shm is full, or a leaf can't be pickled, is raised here, and not in the queue's thread,
    which would drop the batch.

    Raises
    ------
    SpecError
        A leaf is of a class, or is a function, that another process can't find by name.
    """
    import torch

    found: list[tuple[Place, Tensor]] = []
    end = 0

    def place(leaf: Any) -> Any:
        nonlocal end
        if not isinstance(leaf, torch.Tensor):
            return leaf
        if leaf.layout != torch.strided or leaf.is_nested or leaf.device.type != "cpu" or leaf.is_quantized:
            return leaf.detach()  # torch knows how to pickle it
        found.append((Place(end, leaf.dtype, leaf.shape), leaf.detach().as_subclass(torch.Tensor)))
        end += -(-leaf.nbytes // ALIGNED) * ALIGNED
        return found[-1][0]

    nest = over(place, nest)
    fits = slots is not None and end <= SLOT
    if slots is not None and fits:
        memory = slots(process, turn)
    else:
        memory = torch.empty(0, dtype=torch.uint8).set_(torch.UntypedStorage._new_shared(end))
    for at, leaf in found:
        _tensor(memory, at).copy_(leaf)
    return Packed(None if fits else memory, _pickled(nest), (process, turn))


def _pickled(nest: Any) -> bytes:
    try:
        return bytes(ForkingPickler.dumps(nest))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise SpecError(
            f"data: a loading process can't hand over a batch that collate made ({error}); make it of tensors, "
            "numbers, text and what a module holds by name, or read without such processes: workers=0"
        ) from error


def unpacked(sent: Packed, slots: Slots | None = None) -> Any:
    """The nest, its tensors as they lie in the memory; what is in a slot is copied, since others will be there."""
    if sent.memory is not None:
        memory = sent.memory
        return over(lambda leaf: _tensor(memory, leaf) if isinstance(leaf, Place) else leaf, pickle.loads(sent.nest))
    assert slots is not None  # it was packed with them
    slot = slots(*sent.slot)
    return over(lambda leaf: _tensor(slot, leaf).clone() if isinstance(leaf, Place) else leaf, pickle.loads(sent.nest))


def _tensor(memory: Tensor, at: Place) -> Tensor:
    # Not as a view of the memory: autograd would take a change of one tensor for a change of all.
    import torch

    bare: Any = torch.empty(0, dtype=at.dtype)
    strides = torch.empty(at.shape, device="meta").stride()
    return bare.set_(memory.untyped_storage(), at.begin // at.dtype.itemsize, at.shape, strides)
