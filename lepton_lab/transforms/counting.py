"""
Texts as counts of their words.

Legend of the shape comments: N texts, S columns.
"""

from __future__ import annotations

import dataclasses
import zlib
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from .base import once
from .texts import labelled, read
from .wording import WORD

if TYPE_CHECKING:
    from torch import Tensor

    from ..datasets import Data

Columns = Annotated[int, Field(ge=16, le=65536)]


@once(
    "tokens", sees=lambda shape, classes, vocabulary, size=4096, **_: ((size,), classes, 0), refuse=labelled, fits=True
)
def bag_of_words(data: Data, seed: int, *, size: Columns = 4096, pairs: bool = True) -> Data:
    """
    Texts as rows of numbers: how often each word, and each pair of neighbours, is in it, by how rare it is (TF-IDF).

    Words are told apart by a hash of their lower case, so that nothing is learnt but how many training texts have a
    column: (1 + ln count) ln((1 + N) / (1 + n)) + the former, each row of length 1, as scikit-learn has it with
    sublinear counts. Source: K. Weinberger et al., Feature Hashing for Large Scale Multitask Learning, 2009.

    Parameters
    ----------
    size
        Columns, from 16 to 65,536; words that share one are not told apart.
    pairs
        Whether neighbours count, too.

    Raises
    ------
    SpecError
        If tokens are no bytes, characters or words.
    """
    counts = {part: _counted(rows, size, pairs) for part, rows in read(data, "bag_of_words").items()}
    train = counts["train"]
    rare = ((1 + len(train)) / (1 + (train > 0).sum(0))).log() + 1
    parts: dict[str, Any] = {part: (_weighted(x, rare), getattr(data, part)[1]) for part, x in counts.items()}
    return dataclasses.replace(
        data, **parts, shape=(size,), vocabulary=0, tokens="", pieces=[], collate=None, lengths=None
    )


def _counted(texts: list[str], size: int, pairs: bool) -> Tensor:
    """How often each column's words are in each text, (N, S)."""
    import torch

    counts = torch.zeros(len(texts), size)
    for place, text in enumerate(texts):
        words = [word.lower() for word in WORD.findall(text)]
        words += [f"{one} {other}" for one, other in pairwise(words)] if pairs else []
        columns = torch.tensor([zlib.crc32(word.encode()) % size for word in words], dtype=torch.int64)
        counts[place].index_add_(0, columns, torch.ones(len(columns)))
    return counts


def _weighted(counts: Tensor, rare: Tensor) -> Tensor:
    from torch.nn import functional

    return functional.normalize((counts.clamp(min=1).log() + 1).where(counts > 0, 0.0) * rare)
