"""Batches on their way from a loading process: all their tensors in one piece of shared memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from ..batches import over

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
    nest: Any
    """With a Place for each tensor."""


def packed(nest: Any) -> Packed:
    """
    A nest as it goes through a queue.

    An exception where /dev/shm is full is raised here, and not in the queue's thread, which would drop the batch.
    """
    import torch

    found: list[tuple[Place, Tensor]] = []
    end = 0

    def place(leaf: Any) -> Any:
        nonlocal end
        if not isinstance(leaf, torch.Tensor):
            return leaf
        if leaf.layout != torch.strided or leaf.device.type != "cpu" or leaf.is_quantized:
            return leaf.share_memory_()
        found.append((Place(end, leaf.dtype, leaf.shape), leaf.detach().as_subclass(torch.Tensor)))
        end += -(-leaf.nbytes // ALIGNED) * ALIGNED
        return found[-1][0]

    nest = over(place, nest)
    memory = torch.empty(0, dtype=torch.uint8).set_(torch.UntypedStorage._new_shared(end))
    for at, leaf in found:
        _tensor(memory, at).copy_(leaf)
    return Packed(memory, nest)


def unpacked(sent: Packed) -> Any:
    """The nest, its tensors as they lie in the memory."""
    return over(lambda leaf: _tensor(sent.memory, leaf) if isinstance(leaf, Place) else leaf, sent.nest)


def _tensor(memory: Tensor, at: Place) -> Tensor:
    # Not as a view of the memory: autograd would take a change of one tensor for a change of all.
    import torch

    bare: Any = torch.empty(0, dtype=at.dtype)
    strides = torch.empty(at.shape, device="meta").stride()
    return bare.set_(memory.untyped_storage(), at.begin // at.dtype.itemsize, at.shape, strides)
