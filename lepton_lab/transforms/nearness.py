"""
Which samples are alike: pictures by a small grey copy, sounds by that of their spectra, texts by their shingles, rows
of numbers by their distance.

Legend of the shape comments: N samples, C channels, H x W pixels, T tokens, F numbers that describe a sample.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ..errors import SpecError
from ..preparation import KINDS, kind
from .picking import length

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from ..datasets import Data, Split

PICTURES = ("pictures", "spectra")
KNOWN = (*PICTURES, "table")
SIDE = 12  # pixels of the small copy's sides, at most
FINE = 64  # the same of a spectrum: one word said twice differs in little
FRAME = 256  # values of a sound that a column of its spectrum is of
BLOCK = 2048  # samples that are compared with all others at once: 2048 x 60,000 float32 are 0.5 GB
CELLS = 2**24  # numbers of one such block, at most
SHINGLE = 4  # tokens or words that follow each other
HASHES, BANDS = 64, 16  # of a text's signature; 16 bands of 4 find pairs alike in 0.8 of their shingles in 99.9 %
PRIME = (1 << 31) - 1

Pairs = list[tuple[int, int]]


def near(data: Data, splits: list[Split], distance: float) -> Pairs:
    """Pairs i < j of samples, counted through some splits, that are at most so far apart in the way of their kind."""
    import torch

    if kind(data) == "tokens":
        return near_texts([text for split in splits for text in tokens(split, data)], distance)
    if kind(data) == "sound":
        return near_pictures(torch.cat([spectra(_stacked(split)) for split in splits]), distance)
    described = torch.cat([described_by(data, split) for split in splits])
    return near_pictures(described, distance) if kind(data) in PICTURES else near_numbers(described, distance)


def described_by(data: Data, split: Split) -> Tensor:
    """Of each picture or row of numbers what it is compared by, (N, F) float32; of other kinds a SpecError."""
    what = kind(data)
    if what not in KNOWN:
        raise SpecError(f"data: {KINDS[what]} have no distance here; pictures, rows of numbers and tokens have one")
    x = _stacked(split)
    return thumbnails(x) if what in PICTURES else x.float()


def _stacked(split: Split) -> Tensor:
    """The x of all samples, (N, ...); a SpecError where their shapes differ."""
    import torch

    if isinstance(split, tuple):
        return split[0]
    samples = [torch.as_tensor(split[i][0]) for i in range(length(split))]
    first, *others = (tuple(sample.shape) for sample in samples)
    for number, shape in enumerate(others, 1):
        if shape != first:
            raise SpecError(
                f"data: sample 0 has x of shape {first} and sample {number} of {shape}, and what differs in shape has "
                "no distance; pad or crop them"
            )
    return torch.stack(samples)


def tokens(split: Split, data: Data) -> Iterator[Any]:
    """Rows of tokens; of bytes and characters without what `normalised` takes away, and without a padding of zeros."""
    import numpy as np

    for i in range(length(split)):
        row = np.trim_zeros(np.asarray(split[0][i] if isinstance(split, tuple) else split[i][0]), "b")
        if data.tokens == "bytes":
            row = np.frombuffer(normalised(row.astype(np.uint8).tobytes().decode(errors="ignore")).encode(), np.uint8)
        elif data.tokens == "characters" and len(data.classes) == data.vocabulary:
            row = np.array([*map(ord, normalised("".join(data.classes[token] for token in row)))])
        yield row


def spectra(x: Tensor) -> Tensor:
    """
    Sounds (N, T) or (N, 1, T) as thumbnails of their spectra, (N, F), whatever their loudness.

    In decibels, down to 20 below the loudest: what is nearly as quiet as silence says little.
    """
    import torch

    window, small = torch.hann_window(FRAME), []
    for part in x.split(BLOCK):
        flat = part.float().reshape(len(part), -1)
        size = torch.stft(flat, FRAME, FRAME // 2, window=window, pad_mode="constant", return_complex=True).abs()
        loudest = size.amax((1, 2), keepdim=True).clamp(min=1e-9)
        small.append(thumbnails((10 * size / loudest).log1p(), FINE))
    return torch.cat(small)


def thumbnails(x: Tensor, side: int = SIDE) -> Tensor:
    """
    Pictures (N, C, H, W) or (N, H, W) as small grey ones without their brightness and contrast, (N, F).

    Each has a mean of 0 and a length of 1, so that the product of two is their correlation; of a blank one all is 0.
    """
    import torch

    small = []
    for part in x.split(BLOCK):
        grey = part.float().reshape(len(part), -1, *part.shape[-2:]).mean(1, keepdim=True)
        sides = tuple(min(one, side) for one in grey.shape[-2:])
        flat = torch.nn.functional.adaptive_avg_pool2d(grey, sides).flatten(1)
        flat = flat - flat.mean(1, keepdim=True)
        small.append(flat / flat.norm(dim=1, keepdim=True).clamp(min=1e-6))
    return torch.cat(small)


def near_pictures(pictures: Tensor, distance: float) -> Pairs:
    """Pairs i < j of thumbnails (N, F) whose correlation is at least 1 - distance; blank ones are like no other."""
    return _pairs(pictures, lambda part, all_: part @ all_.T >= 1 - distance)


def near_numbers(numbers: Tensor, distance: float) -> Pairs:
    """
    Pairs i < j of rows (N, F) at most so far apart: the root of the mean square over F, in standard deviations of each.

    Numbers that are the same in all rows don't count.
    """
    import torch

    spread = numbers.std(0)
    scaled = (numbers - numbers.mean(0))[:, spread > 0] / spread[spread > 0]
    limit = distance * max(1, scaled.shape[1]) ** 0.5
    return _pairs(scaled, lambda part, all_: torch.cdist(part, all_) <= limit)


def _pairs(described: Tensor, alike: Callable[[Tensor, Tensor], Tensor]) -> Pairs:
    """Of each row that is like an earlier one, the first such: of a thousand that are alike there are 999 pairs."""
    block = max(1, min(BLOCK, CELLS // max(1, len(described))))
    first: dict[int, int] = {}
    for begin in range(0, len(described), block):
        rest = described[begin:]
        hits = alike(rest[:block], rest).triu(1)
        for j in hits.any(0).nonzero()[:, 0].tolist():
            first.setdefault(begin + j, begin + int(hits[:, j].byte().argmax()))
    return [(i, j) for j, i in first.items()]


def normalised(text: str) -> str:
    """A text without case, punctuation and more than one space between words."""
    return " ".join(re.findall(r"\w+", text.lower()))


def near_texts(texts: list[Any], distance: float) -> Pairs:
    """
    Pairs i < j of rows of tokens whose sets of shingles have at least 1 - distance in common (Jaccard).

    Candidates come from MinHash signatures (A. Broder 1997), and each is counted out; a pair well within the distance
    may be missed with a chance of 1 in 1,000 at 0.2, and less below.
    """
    import numpy as np

    sets = [_shingles(text) for text in texts]
    draw = np.random.default_rng(0)
    a, b = draw.integers(1, PRIME, (2, HASHES, 1))
    signatures = np.array([_signature(shingles, a, b) for shingles in sets]).reshape(-1, BANDS, HASHES // BANDS)
    candidates: set[tuple[int, int]] = set()
    for band in range(BANDS):
        buckets: dict[bytes, list[int]] = {}
        for i, row in enumerate(signatures[:, band]):
            if len(sets[i]):
                buckets.setdefault(row.tobytes(), []).append(i)
        for bucket in buckets.values():  # each with the first: a text that is there a thousand times has 999 pairs
            candidates |= {(bucket[0], other) for other in bucket[1:]}
    return sorted((i, j) for i, j in candidates if _jaccard(sets[i], sets[j]) >= 1 - distance)


def _shingles(tokens: Any) -> np.ndarray:
    """The different runs of SHINGLE tokens as numbers below PRIME; of fewer tokens all of them are one."""
    import numpy as np

    tokens = np.asarray(tokens, dtype=np.int64)
    if len(tokens) < SHINGLE:
        return np.unique(_rolled(tokens[None])) if len(tokens) else tokens
    return np.unique(_rolled(np.lib.stride_tricks.sliding_window_view(tokens, SHINGLE)))


def _rolled(windows: np.ndarray) -> np.ndarray:
    import numpy as np

    value = np.zeros(len(windows), np.int64)
    for column in windows.T:
        value = (value * 1_000_003 + column + 1) % PRIME
    return value


def _signature(shingles: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    import numpy as np

    return ((a * shingles + b) % PRIME).min(1) if len(shingles) else np.full(HASHES, PRIME)


def _jaccard(first: np.ndarray, second: np.ndarray) -> float:
    import numpy as np

    common = len(np.intersect1d(first, second, assume_unique=True))
    return common / (len(first) + len(second) - common)
