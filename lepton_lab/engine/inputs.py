"""
Batches as model and loss take them: scaled, augmented in training, of the type of the model's weights.

Legend of the shape comments: B samples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..batches import over
from ..datasets import Data, scaling
from ..spec import Spec
from ..strategies.base import Single
from ..transforms import PIXELS
from . import filling
from .augmentation import Augmentation

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Inputs:
    """
    What is made of batches on a rank's device before model and loss see them.

    Parameters
    ----------
    data
        Says how inputs are scaled: uint8 to (x / 255 - mean) / std by channel, and floats that were standardised; or
        that they are tokens, which go to the model as int64. The spec's augmentations are for its training part.

    Attributes
    ----------
    mixes : bool
        Whether an augmentation mixes the samples of a batch.
    filler : int or None
        The token at a sample's end that changes nothing for the model, where there is one.
    """

    def __init__(self, data: Data, spec: Spec, strategy: Single) -> None:
        import torch

        self._tokens = data.vocabulary > 0
        self.filler = filling.filler(strategy) if self._tokens else None
        self._whole = filling.whole(data, strategy)
        self._dtype = _weights(strategy)
        self._scale: list[Any] = [
            value.to(strategy.device) if isinstance(value, torch.Tensor) else value
            for value in scaling(data.mean, data.std, len(data.shape), data.unit)
        ]
        self._floats = data.unit == 1 and len(data.mean) > 0  # whether they are scaled too
        self._augment = Augmentation(spec, data)
        self.mixes = self._augment.mixes

    def nest(self, batch: Any) -> Any:
        """A nest of tensors, with its floats in the type of the model's weights."""
        return over(self._cast, batch)

    def pair(self, x: Tensor, y: Tensor, places: Tensor, epoch: int | None) -> tuple[Tensor, Tensor]:
        """Samples (B, ...) with targets (B, ...), and their `places` (B,) in the split; augmented in an epoch."""
        if self._whole[0]:
            x = filling.up(x, *self._whole)
        if self._tokens:
            x, y = x.long(), y if y.is_floating_point() else y.long()
        raw = x.dtype
        if epoch is not None and self._augment:
            x, y = self._augment(x, y, epoch, places)
        if self._tokens:
            return filling.cut(x, self.filler), y
        return self._scaled(x, raw), self._cast(y)

    def _cast(self, leaf: Any) -> Any:
        import torch

        return leaf.to(self._dtype) if isinstance(leaf, torch.Tensor) and leaf.is_floating_point() else leaf

    def _scaled(self, x: Tensor, raw: torch.dtype) -> Tensor:
        """Numbers as the model takes them; what was augmented is no longer of the `raw` type, but of floats from 0."""
        import torch

        if raw == torch.uint8:
            scale, shift = self._scale
            scale = scale if x.dtype == raw else scale * PIXELS["uint8"]
            return x.to(self._dtype).mul_(scale).sub_(shift)
        if x.dtype == torch.uint16:  # pictures of a Dataset
            return x.to(self._dtype).div_(PIXELS["uint16"])
        if not x.is_floating_point():
            return x
        x = x.mul(self._scale[0]).sub_(self._scale[1]) if self._floats else x
        return x.to(self._dtype)  # NumPy makes float64, which weights seldom are


def _weights(strategy: Single) -> torch.dtype:
    """What floats the model's weights are; float32 where they are of several types."""
    import torch

    parameters = strategy.module.parameters() if hasattr(strategy, "module") else ()
    dtypes = {p.dtype for p in parameters if p.is_floating_point()}
    return dtypes.pop() if len(dtypes) == 1 else torch.float32
