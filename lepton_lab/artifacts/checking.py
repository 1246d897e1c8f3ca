"""Samples as a model takes them, or the sentence on why they are not."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..batches import leaves, over
from ..errors import SpecError

if TYPE_CHECKING:
    import numpy as np

    from .inputs import Input, Signature

TAKES = {"uint8": "whole numbers from 0 to 255", "float32": "finite floating-point numbers", "int64": "whole numbers"}
TAKES["bool"] = "true or false"


def taken(signature: Signature, args: tuple[Any, ...], named: Mapping[str, Any] | None = None) -> tuple[Any, bool]:
    """What was given to a model as a batch, and whether it came as one sample by itself; SpecError as `checked`."""
    given = signature.bound(args, named or {})
    arrays, alone = {}, set()
    for item in signature.inputs:
        if item.name not in given:
            continue
        try:
            arrays[item.name], single = checked(given[item.name], item.shape, item.dtype, item.vocabulary)
        except SpecError as error:
            raise (SpecError(f"{item.name}: {error}") if signature.several else error) from None
        alone.add(single)
    if len({len(array) for array in arrays.values()}) > 1 or len(alone) > 1:
        sizes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise SpecError(f"inputs of as many samples each are needed, and these are {sizes}")
    return signature.pack(arrays[i.name] if i.name in arrays else _usual(i, arrays) for i in signature.inputs), *alone


def _usual(item: Input, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """What an input is where it was left out."""
    import numpy as np

    if item.begins >= 0:
        return np.full((len(next(iter(arrays.values()))), 1), item.begins, item.dtype)
    if item.like not in arrays:
        raise SpecError(f"neither {item.name!r} nor {item.like!r}: give one at least")
    return np.full(arrays[item.like].shape, item.fill, item.dtype)


def _fits(shape: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    return len(shape) == len(wanted) and all(w is None or s == w for s, w in zip(shape, wanted, strict=True))


def checked(samples: Any, shape: tuple[int | None, ...], dtype: str, vocabulary: int = 0) -> tuple[np.ndarray, bool]:
    """
    Samples as a batch (B, *shape) of `dtype`, and whether they came as one sample without a batch.

    They may be a NumPy array, a torch tensor or nested lists, (B, *shape) or (*shape); `vocabulary` is that of tokens
    (int64). Raises SpecError where shape, kind or range is wrong.
    """
    import numpy as np

    array, sizes = to_array(samples), ", ".join("any" if size is None else str(size) for size in shape)
    if array.dtype.kind not in "biuf":
        raise SpecError(f"samples of {array.dtype} are no numbers: give {TAKES[dtype]} of shape (batch, {sizes})")
    alone = _fits(array.shape, shape)
    if alone:
        array = array[None]
    if not array.ndim or not _fits(array.shape[1:], shape):
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
    if dtype == "bool":
        return array.astype(bool), alone
    if array.dtype.kind not in "iu":
        hint = "raw pixels, not scaled ones" if dtype == "uint8" else f"tokens below {vocabulary}"
        raise SpecError(f"samples of {array.dtype}: must be {TAKES[dtype]} ({hint})")
    if dtype == "int64" and not vocabulary:
        return array.astype(dtype, copy=False), alone
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


def like(samples: Any, scores: Any) -> Any:
    """Scores as a tensor where the samples, or some among them, are one."""
    import numpy as np

    torch = sys.modules.get("torch")
    if torch is None or not any(isinstance(leaf, torch.Tensor) for leaf in leaves(samples)):
        return scores
    return over(lambda array: torch.from_numpy(np.asarray(array)), scores)
