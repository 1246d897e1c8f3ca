"""Parameters and multiply-adds of a module, counted and not estimated."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from ..switches import no_fastpath

if TYPE_CHECKING:
    from torch import Tensor, nn


def _of_matrix(matrix: Sequence[int], *_: Any, **__: Any) -> int:
    return 2 * prod(matrix)


aten = torch.ops.aten
OF_VECTORS = {aten.mv: _of_matrix, aten.dot: _of_matrix, aten.addmv: lambda _, *shapes, **__: _of_matrix(*shapes)}
"""Products that torch's counter leaves out: floating-point operations from the shapes of what is multiplied."""


def parameters(module: nn.Module) -> int:
    """Numbers that training sets; one that is used twice counts once."""
    return sum(p.numel() for p in module.parameters())


def multiply_adds(module: nn.Module, *sample: Tensor) -> int:
    """
    Multiply-adds of a forward pass: those of matrix products, convolutions and attention, exactly as computed.

    What is added up elsewhere (biases, norms, activations) is not counted. A causal attention counts in full, as its
    masked half is computed too where no kernel skips it. The module is in eval mode, the sample is its input or
    inputs, (1, *shape).
    """
    counter = FlopCounterMode(display=False, custom_mapping=OF_VECTORS)
    with unfused(), counter:
        module(*sample)
    return counter.get_total_flops() // 2


@contextmanager
def unfused() -> Iterator[None]:
    """Without gradients, and with attention, recurrent and torch's own encoder layers computed product by product."""
    plain = torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH)
    with no_fastpath(), warnings.catch_warnings(), torch.no_grad(), plain:
        warnings.simplefilter("ignore")  # of another flag of it, which stays as it is
        with torch.backends.mkldnn.flags(enabled=False):
            yield
