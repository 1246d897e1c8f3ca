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

    Of models that make samples it is that of what they made and of real ones: as many as the split has; and of
    `task="diffusion"`, where each takes 20 passes through the model, the first 2,048 or so. The fewer samples, the
    larger it is, so a note tells how far one half of the real ones is from the other.

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
    kinds = ("numbers", "noise", "samples")
    sets = True

    def __init__(self, data: Data, criterion: Criterion, *, extractor: str = "") -> None:
        import torch

        super().__init__(data, criterion)
        if extractor and not Path(extractor).is_file():
            raise SpecError(
                f"options={{'extractor': {extractor!r}}}: there is no such file; torch.export.save writes it"
            )
        self._extract: Any = torch.export.load(extractor).module() if extractor else None

    def update(self, output: Any, target: Any) -> Tensor | None:
        """How many, the sums of features and of their products: of outputs, and of each half of targets."""
        import torch

        if not all(hasattr(one, "dim") and one.is_floating_point() and one.dim() > 1 for one in (output, target)):
            return None
        made, real = (self._features(one) for one in (output, target))
        sets = made, real[::2], real[1::2]
        return torch.cat([part for x in sets for part in (x.new_tensor([len(x)]), x.sum(0), (x.T @ x).flatten())])

    def add(self, output: Any, batch: Batch) -> Tensor | None:
        """As `update`; of what was made, where the model makes samples."""
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
        """The distance; NaN of fewer than two samples."""
        made, one, other = sums.view(3, -1)
        if self.criterion.kind in ("noise", "samples") and min(one[0], other[0]) > 1:
            text = f"of {int(one[0]):,} real samples to {int(other[0]):,} others is {self._apart(one, other):.3g}"
            self.doubt = f"{text}: as low a figure tells of no difference"
        return self._apart(made, one + other)

    def _apart(self, one: Tensor, other: Tensor) -> float:
        """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^0.5)."""
        import torch

        (n, total, products), (m, others, their_products) = self._parts(one), self._parts(other)
        if n < 2 or m < 2:
            return math.nan
        mean, their_mean = total / n, others / m
        first, second = (
            (square - len_ * torch.outer(center, center)) / (len_ - 1)
            for square, len_, center in ((products, n, mean), (their_products, m, their_mean))
        )
        values, vectors = torch.linalg.eigh(first)
        root = vectors * values.clamp(min=0).sqrt() @ vectors.T
        together = torch.linalg.eigvalsh(root @ second @ root).clamp(min=0).sqrt().sum()
        apart = (mean - their_mean).square().sum() + first.trace() + second.trace() - 2 * together
        return max(float(apart), 0.0)

    def _parts(self, sums: Tensor) -> tuple[float, Tensor, Tensor]:
        """How many, sums (D,) and products (D, D)."""
        d = math.isqrt(len(sums))
        return float(sums[0]), sums[1 : 1 + d], sums[1 + d :].view(d, d)
