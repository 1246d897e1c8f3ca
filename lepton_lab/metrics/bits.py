"""Bits that a model needs for each byte of a text."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ..losses import token_loss
from .base import Metric

if TYPE_CHECKING:
    from torch import Tensor

    from ..datasets import Data
    from ..objectives import Criterion


class BitsPerByte(Metric):
    """Bits for each byte of a text, by which models compare whatever their tokens; it follows from the loss."""

    title = "Bits per byte"
    short = "bits"
    axis = "bits per byte"
    higher = False
    shown = False
    usual = True
    kinds = ("tokens",)

    def __init__(self, data: Data, criterion: Criterion) -> None:
        super().__init__(data, criterion)
        splits = ((name, getattr(data, name)) for name in self.splits)
        self._bits = {name: bits_per_byte(data, part[1]) for name, part in splits if isinstance(part, tuple)}

    @classmethod
    def of(cls, data: Data, criterion: Criterion, **options: Any) -> BitsPerByte | None:
        """Of texts whose loss is the mean over tokens."""
        known = data.tokens in ("bytes", "characters", "byte_level")
        return cls(data, criterion) if known and criterion.loss is token_loss else None

    def follow(self, split: str, figures: dict[str, Any]) -> float | None:
        """The loss in other units."""
        return figures["loss"] * self._bits[split] if split in self._bits else None


def bits_per_byte(data: Data, targets: Tensor) -> float:
    """
    What a loss of 1 (natural logarithm, mean over `targets`, (N, T)) is in bits for each byte of the text.

    1 / ln 2 where the data's tokens are bytes. Where they are characters or pieces, times those a byte of the targets'
    own text, so that all can be compared.
    """
    import torch

    if data.tokens == "bytes":
        return 1 / math.log(2)
    counts = torch.bincount(targets.flatten(), minlength=len(data.classes))
    whole = data.tokens == "byte_level"  # of whose names each letter stands for a byte
    sizes = torch.tensor([len(name if whole else name.encode()) for name in data.classes])
    return targets.numel() / (counts * sizes).sum().item() / math.log(2)
