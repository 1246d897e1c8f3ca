"""Samples that come as text, as the tokens that a model's file takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .. import spelling
from ..errors import LabError, SpecError

if TYPE_CHECKING:
    import numpy as np


def numbered(samples: tuple[Any, ...], manifest: Mapping[str, Any]) -> tuple[Any, ...]:
    """
    Samples as a file takes them: one text (T,), or a list of texts (B, T), as tokens; any other as they are.

    Tokens are filled up with 0, or cut, to the length of a sample. Text where the file does not say how it becomes
    tokens is a SpecError.
    """
    if not (texts := worded(samples)):
        return samples
    takes, answer = manifest["input"], manifest.get("answer", {})
    shape = takes["shape"]
    if takes["dtype"] != "int64" or len(shape) != 1:
        raise SpecError("samples: this model takes no text, but numbers")
    write = spelling.writer(answer.get("text"), manifest["labels"], str(manifest["tokens"]))
    from ..transforms.wording import reworded

    try:
        rows = [write(reworded(text, answer.get("reworded", ()))) for text in texts]
    except (KeyError, TypeError, AttributeError):
        raise LabError("its manifest tells of changes of a text that are not known; upgrade this library") from None
    batch = _filled(rows, shape[0] or max(map(len, rows)) or 1)
    return (batch[0] if isinstance(samples[0], str) else batch,)


def worded(samples: tuple[Any, ...]) -> list[str]:
    """The one text, or several, that are given as samples; [] of what is none."""
    if len(samples) != 1:
        return []
    texts = [samples[0]] if isinstance(samples[0], str) else samples[0]
    return list(texts) if isinstance(texts, list) and texts and all(isinstance(text, str) for text in texts) else []


def _filled(rows: list[list[int]], length: int) -> np.ndarray:
    import numpy as np

    batch = np.zeros((len(rows), length), np.int64)
    for place, row in enumerate(rows):
        batch[place, : len(row)] = row[:length]
    return batch
