"""Parameters and multiply-adds of a module, counted and not estimated."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ..switches import no_fastpath

if TYPE_CHECKING:
    from torch import Tensor, nn


def parameters(module: nn.Module) -> int:
    """Numbers that training sets; one that is used twice counts once."""
    return sum(p.numel() for p in module.parameters())


def multiply_adds(module: nn.Module, sample: Tensor) -> int:
    """
    Multiply-adds of a forward pass: those of matrix products, convolutions and attention, exactly as computed.

    What is added up elsewhere (biases, norms, activations) is not counted. A causal attention counts in full, as its
    masked half is computed too where no kernel skips it.

    Parameters
    ----------
    module
        In eval mode.
    sample
        Input (1, *shape).
    """
    counter = _Counter()
    with unfused(), counter:
        module(sample)
    return counter.count


@contextmanager
def unfused() -> Iterator[None]:
    """Without gradients, and with attention, recurrent and torch's own encoder layers computed product by product."""
    plain = torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH)
    with no_fastpath(), warnings.catch_warnings(), torch.no_grad(), plain:
        warnings.simplefilter("ignore")  # of another flag of it, which stays as it is
        with torch.backends.mkldnn.flags(enabled=False):
            yield


class _Counter(TorchDispatchMode):
    """Sees every operator that a forward pass comes down to."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        name = func._schema.name.removeprefix("aten::")
        if name in PRODUCTS:
            self.count += output.numel() * args[PRODUCTS[name]].shape[-1]
        elif name in ("convolution", "_convolution", "mkldnn_convolution", "convolution_overrideable"):
            transposed = args[6] if name != "mkldnn_convolution" else False
            weight = args[1]
            # Of each output (or, transposed, each input): the kernel over the channels of its group.
            self.count += (args[0] if transposed else output).numel() * prod(weight.shape[1:])
        elif name.startswith("_scaled_dot_product"):
            q, k, v = args[:3]
            self.count += q.numel() * k.shape[-2] + q[..., 0].numel() * k.shape[-2] * v.shape[-1]
        return output


PRODUCTS = {"mm": 0, "bmm": 0, "addmm": 1, "baddbmm": 1, "mv": 0, "addmv": 1, "dot": 0}
