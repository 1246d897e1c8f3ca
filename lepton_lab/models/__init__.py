"""
Models: MODELS maps a name to a function `(shape, classes, vocabulary, **options) -> nn.Module`, which returns logits.

Adding one: write it here, in a file of its own or beside its kin, and add a line to the table.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from . import sequences
from .images import cnn, mlp, mnist_cnn
from .sampling import sample

if TYPE_CHECKING:
    from torch import nn

__all__ = ["MODELS", "cnn", "mlp", "mnist_cnn", "sample"]

# `gpt` and `transformer` stay names of modules here, whose code is the lesson.
MODELS: dict[str, Callable[..., nn.Module]] = {
    "mlp": mlp,
    "cnn": cnn,
    "mnist_cnn": mnist_cnn,
    "transformer": sequences.transformer,
    "gpt": sequences.gpt,
}
