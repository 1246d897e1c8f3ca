"""Batches on their way from a loading process: all their tensors in one piece of shared memory."""

from __future__ import annotations

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


@dataclass(frozen=True)
class Place:
    """Where a tensor lies in the memory."""

    begin: int
    dtype: torch.dtype
    shape: torch.Size


class Packed(NamedTuple):
    """A nest whose tensors are in one memory: handing a descriptor over costs more than a small batch does."""

    memory: Tensor
    """Bytes, (N,)."""
    nest: bytes
    """Pickled, with a Place for each tensor."""


def packed(nest: Any) -> Packed:
    """
    A nest as it goes through a queue.

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
    memory = torch.empty(0, dtype=torch.uint8).set_(torch.UntypedStorage._new_shared(end))
    for at, leaf in found:
        _tensor(memory, at).copy_(leaf)
    return Packed(memory, _pickled(nest))


def _pickled(nest: Any) -> bytes:
    try:
        return bytes(ForkingPickler.dumps(nest))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise SpecError(
            f"data: a loading process can't hand over a batch that collate made ({error}); make it of tensors, "
            "numbers, text and what a module holds by name, or read without such processes: workers=0"
        ) from error


def unpacked(sent: Packed) -> Any:
    """The nest, its tensors as they lie in the memory."""
    return over(lambda leaf: _tensor(sent.memory, leaf) if isinstance(leaf, Place) else leaf, pickle.loads(sent.nest))


def _tensor(memory: Tensor, at: Place) -> Tensor:
    # Not as a view of the memory: autograd would take a change of one tensor for a change of all.
    import torch

    bare: Any = torch.empty(0, dtype=at.dtype)
    strides = torch.empty(at.shape, device="meta").stride()
    return bare.set_(memory.untyped_storage(), at.begin // at.dtype.itemsize, at.shape, strides)
