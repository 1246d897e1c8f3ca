"""
What fills samples of tokens up to one length, of a model that leaves it out.

Legend of the shape comments: N samples, B of a batch, T tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from ..strategies.base import Single


def filler(strategy: Single) -> int | None:
    """The token at a sample's end that changes nothing for the strategy's model; None where it has none."""
    modules = strategy.module.modules() if hasattr(strategy, "module") else ()
    return next((module.filler for module in modules if hasattr(type(module), "filler")), None)


def cut(x: Tensor, filler: int | None) -> Tensor:
    """Samples (B, T) without the columns at the end that only fill up, at least one of them; all of them if None."""
    if filler is None:
        return x
    text = (x != filler).any(0).nonzero()
    return x[:, : int(text[-1]) + 1 if len(text) else 1]


def lengths(x: Tensor, filler: int) -> Tensor:
    """How many tokens of each sample (N, T) are no filler: (N,), on the CPU."""
    return (x != filler).sum(1).cpu()
