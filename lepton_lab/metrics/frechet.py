"""
How far apart two sets are, as normal distributions of their features.

Legend of the shape comments: B samples, D features.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import SpecError
from .base import Metric

if TYPE_CHECKING:
    from torch import Tensor

    from ..batches import Batch
    from ..datasets import Data
    from ..objectives import Criterion

MOST = 4096  # features, whose covariances take 256 MB


class Frechet(Metric):
    """
    The Fréchet distance of outputs and targets, each as a normal distribution of its features.

    Of `task="adversarial"` it is that of what the generator made and of real samples. A run of `task="diffusion"` finds
    the noise in samples and makes none, so it has no such figure.

    Heusel and others, NIPS 2017, whose features are those of an Inception network; so figures compare only where the
    features are the same.

    Parameters
    ----------
    extractor
        File of the model that gives a sample's features (D,), as `torch.export.save` writes it, for any number of
        samples; "" takes a sample's numbers as they are.
    """

    title = "Fréchet distance"
    short = "Fréchet"
    axis = "Fréchet distance"
    higher = False
    wide = True
    kinds = ("numbers",)

    def __init__(self, data: Data, criterion: Criterion, *, extractor: str = "") -> None:
        import torch

        super().__init__(data, criterion)
        if extractor and not Path(extractor).is_file():
            raise SpecError(
                f"options={{'extractor': {extractor!r}}}: there is no such file; torch.export.save writes it"
            )
        self._extract: Any = torch.export.load(extractor).module() if extractor else None

    def update(self, output: Any, target: Any) -> Tensor | None:
        """How many, the sums of features and of their products, of outputs and of targets: 2 (1 + D + D D)."""
        import torch

        if not all(hasattr(one, "dim") and one.is_floating_point() and one.dim() > 1 for one in (output, target)):
            return None
        sets = [self._features(one) for one in (output, target)]
        return torch.cat([part for x in sets for part in (x.new_tensor([len(x)]), x.sum(0), (x.T @ x).flatten())])

    def add(self, output: Any, batch: Batch) -> Tensor | None:
        """As `update`; of players, of what one made."""
        pair = self.criterion.decoded(output, batch.y)
        return None if pair is None else self.update(*pair)

    def _features(self, samples: Tensor) -> Tensor:
        features = samples if self._extract is None else self._extract.to(samples.device)(samples)
        features = features.detach().flatten(1).double()
        if features.shape[1] > MOST:
            raise SpecError(
                f"frechet_distance: a sample has {features.shape[1]} features, and at most {MOST} are compared; give "
                "options={'extractor': ...}, a model with fewer"
            )
        return features

    def finish(self, sums: Tensor) -> float:
        """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^0.5); NaN of fewer than two samples."""
        import torch

        (n, total, products), (m, others, their_products) = (self._parts(half) for half in sums.view(2, -1))
        if n < 2 or m < 2:
            return math.nan
        mean, their_mean = total / n, others / m
        one, other = (
            (square - len_ * torch.outer(center, center)) / (len_ - 1)
            for square, len_, center in ((products, n, mean), (their_products, m, their_mean))
        )
        values, vectors = torch.linalg.eigh(one)
        root = vectors * values.clamp(min=0).sqrt() @ vectors.T
        together = torch.linalg.eigvalsh(root @ other @ root).clamp(min=0).sqrt().sum()
        apart = (mean - their_mean).square().sum() + one.trace() + other.trace() - 2 * together
        return max(float(apart), 0.0)

    def _parts(self, sums: Tensor) -> tuple[float, Tensor, Tensor]:
        """How many, sums (D,) and products (D, D)."""
        d = math.isqrt(len(sums))
        return float(sums[0]), sums[1 : 1 + d], sums[1 + d :].view(d, d)
