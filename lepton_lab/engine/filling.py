"""
What fills samples up to one length: of a model that leaves it out it is cut, of one that does not it is always there.

Legend of the shape comments: N samples, B of a batch, T tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from ..datasets import Data
    from ..strategies.base import Single

ROOM = "lepton_lab.models."
"""Begins the names of modules that hold the lab's own models."""


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


def whole(data: Data, strategy: Single) -> tuple[int, float]:
    """
    The length of all batches of unequal samples, for a model of ours that reads what fills them up; and with what.

    To the longest of its batch alone, a sample would be read otherwise beside others. 0 where that can't be: of models
    that leave it out, of a user's own, and of tokens that are each predicted from those before.
    """
    from ..datasets import Pad

    modules = strategy.module.modules() if hasattr(strategy, "module") else ()
    ours = any(type(module).__module__.startswith(ROOM) for module in modules)
    each = data.vocabulary == len(data.classes)
    rows = len(data.shape) == 1 + (not data.vocabulary)  # of tokens (T,), or of numbers (T, F)
    if not (ours and rows and isinstance(data.collate, Pad)) or each or filler(strategy) is not None:
        return 0, 0
    return data.shape[0], data.collate.values.get("x", 0)


def up(x: Tensor, length: int, value: float) -> Tensor:
    """Samples (B, T, ...) filled up at their end to a length."""
    from torch.nn import functional

    short = length - x.shape[1]
    return functional.pad(x, (*[0, 0] * (x.dim() - 2), 0, short), value=value) if short > 0 else x


def lengths(x: Tensor, filler: int) -> Tensor:
    """How many tokens of each sample (N, T) are no filler: (N,), on the CPU."""
    return (x != filler).sum(1).cpu()
