"""
How far the distributions of splits lie apart: numbers that describe samples, and their classes.

Legend of the shape comments: N samples of a split, F numbers that describe each.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..preparation import kind
from ..transforms import findings
from ..transforms.nearness import KNOWN, described_by, tokens
from ..transforms.picking import length, parts, picked

if TYPE_CHECKING:
    from ..datasets import Data, Split

CHANCE = 1e-3  # that a gap between splits that were dealt out of one source is more than `chance` says
COMPONENTS = 6
DRAWN = 5000  # samples of a split that are compared


class Gap(NamedTuple):
    """How far two distributions are apart."""

    name: str
    """What is distributed."""
    size: float
    """From 0 to 1: the largest difference of two cumulative ones (Kolmogorov and Smirnov), or half the total one."""
    chance: float
    """What it is below by chance, but in one case of a thousand."""


def drift(data: Data, other: str, seed: int = 0) -> list[Gap]:
    """
    How far a split is from the training set: the main components of pictures and rows of numbers, lengths of texts.

    At most 5,000 samples of each are compared, drawn by the seed.
    """
    gaps = [_of_values(name, *pair) for name, pair in _described(data, other, seed).items()]
    counts = findings.counts(data)
    if counts:
        gaps.append(_of_counts("classes", counts["train"], counts[other]))
    return gaps


def _described(data: Data, other: str, seed: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Numbers of both splits by what they are; none of kinds that have no such."""
    splits = [_some(parts(data)[name], seed) for name in ("train", other)]
    if kind(data) == "tokens":
        mine, theirs = (np.asarray([len(text) for text in tokens(split, data)]) for split in splits)
        return {"lengths of texts": (mine, theirs)}
    if kind(data) not in KNOWN:
        return {}
    mine, theirs = (described_by(data, split).double().numpy() for split in splits)
    middle, spread = mine.mean(0), mine.std(0)
    scale = np.where(spread > 1e-9, spread, 1.0) if kind(data) == "table" else 1.0
    mine, theirs = (mine - middle) / scale, (theirs - middle) / scale
    _, _, axes = np.linalg.svd(mine, full_matrices=False)
    return {f"values along component {i + 1}": (mine @ axis, theirs @ axis) for i, axis in enumerate(axes[:COMPONENTS])}


def _some(split: Split, seed: int) -> Split:
    n = length(split)
    return split if n <= DRAWN else picked(split, np.sort(np.random.default_rng(seed).permutation(n)[:DRAWN]))


def _of_values(name: str, mine: np.ndarray, theirs: np.ndarray) -> Gap:
    """The statistic of Kolmogorov and Smirnov, and its limit for large samples."""
    n, m = len(mine), len(theirs)
    limit = math.sqrt(-math.log(CHANCE / 2) * (n + m) / (2 * n * m))
    values = np.concatenate([mine, theirs])
    below = (np.searchsorted(np.sort(side), values, "right") / len(side) for side in (mine, theirs))
    return Gap(name, float(np.abs(np.subtract(*below)).max()), limit)


def _of_counts(name: str, mine: np.ndarray, theirs: np.ndarray) -> Gap:
    """The total variation of two tables of counts; 0 by chance where Pearson's test sees none."""
    from scipy.special import chdtrc  # scipy.stats has the test too, and takes half a second to import

    there = (mine + theirs) > 0
    if there.sum() < 2 or not mine.sum() or not theirs.sum():
        return Gap(name, 0.0, 1.0)
    size = float(np.abs(mine / mine.sum() - theirs / theirs.sum()).sum() / 2)
    table = np.stack([mine[there], theirs[there]]).astype(float)
    expected = table.sum(1, keepdims=True) * table.sum(0) / table.sum()
    seen = chdtrc(there.sum() - 1, ((table - expected) ** 2 / expected).sum()) < CHANCE
    return Gap(name, size, 0.0 if seen else 1.0)
