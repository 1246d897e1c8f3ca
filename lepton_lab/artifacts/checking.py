"""Samples as a model takes them, or the sentence on why they are not."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from ..errors import SpecError

if TYPE_CHECKING:
    import numpy as np

TAKES = {"uint8": "whole numbers from 0 to 255", "float32": "finite floating-point numbers", "int64": "whole numbers"}


def checked(samples: Any, shape: tuple[int, ...], dtype: str, vocabulary: int = 0) -> tuple[np.ndarray, bool]:
    """
    Samples as a batch (B, *shape) of `dtype`, and whether they came as one sample without a batch.

    They may be a NumPy array, a torch tensor or nested lists, (B, *shape) or (*shape); `vocabulary` is that of tokens
    (int64). Raises SpecError where shape, kind or range is wrong.
    """
    import numpy as np

    array, sizes = to_array(samples), ", ".join(map(str, shape))
    if array.dtype.kind not in "biuf":
        raise SpecError(f"samples of {array.dtype} are no numbers: give {TAKES[dtype]} of shape (batch, {sizes})")
    alone = array.shape == shape
    if alone:
        array = array[None]
    if array.shape[1:] != shape or not array.ndim:
        raise SpecError(f"samples of shape {array.shape}: must be (batch, {sizes}), or ({sizes}) for one")
    if not len(array):
        raise SpecError("an empty batch: give at least one sample")
    if dtype == "float32":
        if array.dtype.kind != "f":
            raise SpecError(f"samples of {array.dtype}: must be {TAKES[dtype]}; convert them, scaled as for training")
        array = array.astype(np.float32, copy=False)
        if not np.isfinite(array).all():
            raise SpecError("samples hold NaN or infinity: must be finite")
        return array, alone
    if array.dtype.kind not in "iu":
        hint = "raw pixels, not scaled ones" if dtype == "uint8" else f"tokens below {vocabulary}"
        raise SpecError(f"samples of {array.dtype}: must be {TAKES[dtype]} ({hint})")
    if array.dtype != np.uint8 or dtype == "int64":
        most = 255 if dtype == "uint8" else vocabulary - 1
        low, high = int(array.min()), int(array.max())
        if low < 0 or high > most:
            raise SpecError(f"samples from {low} to {high}: must be whole numbers from 0 to {most}")
    return array.astype(dtype, copy=False), alone


def to_array(samples: Any) -> np.ndarray:
    """Samples as NumPy has them, whether they came as an array, a torch tensor or nested lists."""
    import numpy as np

    torch = sys.modules.get("torch")
    if torch is not None and isinstance(samples, torch.Tensor):
        samples = samples.detach().cpu()
        return (samples.float() if samples.dtype == torch.bfloat16 else samples).numpy()
    try:
        return np.asarray(samples)
    except (ValueError, TypeError) as error:
        raise SpecError(f"samples that are no array: {str(error)[:100]}") from None


def like(samples: Any, scores: np.ndarray) -> Any:
    """Scores as a tensor where the samples are one."""
    torch = sys.modules.get("torch")
    return torch.from_numpy(scores) if torch is not None and isinstance(samples, torch.Tensor) else scores
