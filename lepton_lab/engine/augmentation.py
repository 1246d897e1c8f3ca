"""
Batches changed in training by a spec's transforms, on the rank's device.

Legend of the shape comments: B samples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..preparation import augmenting
from ..transforms import augmented, pixels

if TYPE_CHECKING:
    from torch import Tensor

    from ..datasets import Data
    from ..spec import Spec


class Augmentation:
    """
    What a spec's transforms make of batches of pairs; of nests, which none of them takes, nothing.

    Attributes
    ----------
    mixes : bool
        Whether samples of a batch are mixed, so that all of a micro-batch must be there.
    """

    def __init__(self, spec: Spec, data: Data) -> None:
        self._seed, self._classes = spec.seed, len(data.classes)
        self._steps = augmenting(spec) if data.example is None else []
        self.mixes = any(step.mixes for step, _ in self._steps)

    def __bool__(self) -> bool:
        """Whether it changes anything."""
        return bool(self._steps)

    def __call__(self, x: Tensor, y: Tensor, epoch: int, places: Tensor) -> tuple[Tensor, Tensor]:
        """A batch in an epoch, with pixels as floats from 0 to 1; `places` (B,) are its own in the training set."""
        return augmented(pixels(x), y, self._steps, self._seed, epoch, places.to(x.device), classes=self._classes)
