"""What a model of sequences for sequences writes by itself, token by token."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ..errors import LabError
from .answering import Sheet

if TYPE_CHECKING:
    import numpy as np

    from .inputs import Signature


def writes(manifest: Mapping[str, Any]) -> bool:
    """Whether a file's model writes token by token, what `written` does."""
    sheet = Sheet(None, manifest)
    return sheet.task == "sequence_to_sequence" and bool(sheet.asked("length"))


def written(
    forward: Callable[[Any], Any], batch: Any, manifest: Mapping[str, Any], signature: Signature
) -> list[np.ndarray]:
    """
    The most likely targets (greedy), of a batch whose second input holds the tokens to go on from: (T,) of each.

    What has ended is filled up with the token that ends it.
    """
    import numpy as np

    sheet, name = Sheet(None, manifest, batch), signature.names[1]
    end, tokens = sheet.asked("end"), batch[name]
    for _ in range(int(sheet.asked("length"))):
        over = (tokens[:, 1:] == end).any(1)
        if over.all() and tokens.shape[1] > 1:
            break
        scores = forward({**batch, name: tokens})
        if isinstance(scores, (dict, list)) or scores.ndim != 3:
            raise LabError("its scores are none of tokens, so that no text can be written")
        following = np.where(over, end, scores[:, -1].argmax(-1)).astype(tokens.dtype)
        tokens = np.concatenate([tokens, following[:, None]], 1)
    return [*tokens[:, 1:]]
