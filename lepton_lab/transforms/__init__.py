"""
TRANSFORMS: what is done to data before a model sees them, in the order of a spec's `transforms`.

A member is a function with a mark. `@once(kinds)`: `(data, seed, **options) -> Data`, applied where a run's data are
loaded. `@augments(kinds)`: `(x, y, draws, **options) -> (x, y)`, applied to batches in training, on the rank's device.
Both are the same for any number of ranks: they draw by seed, epoch and sample.

Adding one: write it here, in a file of its own or beside its kin, and add a line to the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .base import Transform, augments, once
from .cleaning import balance, deduplicate, drop_blank, drop_outliers
from .colours import colour, cutout, noise
from .counting import bag_of_words
from .dealing import fold, split
from .decisions import mend
from .draws import Draws
from .dropping import drop_tokens, swap_tokens
from .hearing import frequency_warp, spec_augment, speed, time_shift, white_noise
from .mixing import cutmix, mixup
from .moving import crop, flip, rotate, scale, translate
from .policy import rand_augment
from .scaling import standardise
from .speech import mel, mfcc, spectrum
from .strings import strings
from .tokenising import bpe, wordpiece
from .wording import normalise, stop_words, synonyms

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["TRANSFORMS", "Draws", "Transform", "augmented", "augments", "once", "pixels"]

PIXELS = {"uint8": 255, "uint16": 65535}
"""What white is, by type of pixels."""

TRANSFORMS: dict[str, Any] = {
    "mend": mend,
    "deduplicate": deduplicate,
    "drop_blank": drop_blank,
    "drop_outliers": drop_outliers,
    "split": split,
    "balance": balance,
    "fold": fold,
    "normalise": normalise,
    "stop_words": stop_words,
    "synonyms": synonyms,
    "bpe": bpe,
    "wordpiece": wordpiece,
    "bag_of_words": bag_of_words,
    "strings": strings,
    "mel": mel,
    "mfcc": mfcc,
    "spectrum": spectrum,
    "standardise": standardise,
    "flip": flip,
    "crop": crop,
    "rotate": rotate,
    "scale": scale,
    "translate": translate,
    "colour": colour,
    "noise": noise,
    "cutout": cutout,
    "mixup": mixup,
    "cutmix": cutmix,
    "rand_augment": rand_augment,
    "white_noise": white_noise,
    "time_shift": time_shift,
    "speed": speed,
    "frequency_warp": frequency_warp,
    "spec_augment": spec_augment,
    "drop_tokens": drop_tokens,
    "swap_tokens": swap_tokens,
}


def pixels(x: Tensor) -> Tensor:
    """What those that change batches are given: pixels as floats from 0 to 1, all else as it is."""
    import torch

    white = PIXELS.get(str(x.dtype).removeprefix("torch."))
    return x.to(torch.float32).div_(white) if white else x


def augmented(
    x: Tensor,
    y: Tensor,
    steps: Sequence[tuple[Transform, dict[str, Any]]],
    seed: int,
    epoch: int,
    samples: Tensor,
    classes: int = 0,
) -> tuple[Tensor, Tensor]:
    """A batch after some steps; `samples` (B,) are its places in the training set, on its device."""
    for number, (step, options) in enumerate(steps):
        x, y = step(x, y, Draws(seed, epoch, samples, number, classes), **options)
    return x, y
