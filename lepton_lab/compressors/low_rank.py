"""Low rank: a layer's matrix as the product of two thin ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from ..errors import SpecError
from ..spec import Spec
from .base import Compressor, Epochs, Knob, Work

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .layers import Layer


class LowRank(Compressor):
    """
    Cuts each Linear and Conv2d in two thin layers, by singular values; where that saves nothing the layer stays.

    Of an m x n matrix rank r keeps r (m + n) numbers, which is less than m n for r below m n / (m + n) only. A
    convolution of k x k becomes one of k x k to r channels, and one of 1 x 1 from them (Zhang and others,
    arXiv:1505.06798).
    """

    knob = Knob("Low rank", "Rank to keep, of the full one; 0 leaves the layers whole", "rank", 0.1, 0.6)

    def __init__(
        self,
        *,
        rank: Annotated[float, Field(gt=0, lt=1)] = 0.25,
        energy: Annotated[float, Field(ge=0, lt=1)] = 0.0,
        epochs: Epochs = None,
    ) -> None:
        super().__init__(epochs=epochs)
        self.rank, self.energy = rank, energy  # fraction of the full rank; or of the sum of squares to keep, if above 0

    def refuse(self, options: dict[str, Any], before: list[tuple[str, dict[str, Any]]], spec: Spec) -> str:
        """Two ways at once to say how much is kept."""
        if options.get("energy") and "rank" in options:
            return (
                f"compress={{'low_rank': {{'rank': {options['rank']}, 'energy': {options['energy']}}}}}: each says how "
                "much is kept; leave one of the two out"
            )
        return ""

    def apply(self, model: nn.Module, work: Work) -> nn.Module:
        """Two layers in place of each that gains by it."""
        from .layers import replace, unshared

        ranks = {}
        layers, left = unshared(model)
        for name, layer in layers.items():
            matrix = layer.weight.detach().flatten(1)  # (O, I)
            (m, n), rank = matrix.shape, self._rank(matrix)
            if getattr(layer, "groups", 1) > 1:
                left[name] = "a convolution in groups"
            elif rank * (m + n) >= m * n:
                left[name] = f"rank {rank} saves nothing of {m} x {n}: below {-(-m * n // (m + n))} it would"
            else:
                ranks[name] = rank
                model = replace(model, name, _pair(layer, rank, work.rehearsal))
        if not ranks:
            option = f"'energy': {self.energy}" if self.energy else f"'rank': {self.rank}"
            why = "; ".join(f"{name}: {reason}" for name, reason in left.items()) or "it has no Linear or Conv2d layer"
            raise SpecError(f"compress={{'low_rank': {{{option}}}}}: saves nothing in any layer ({why}); take less")
        self.notes = {"ranks": ranks, "left": left}
        return model

    def _rank(self, matrix: Tensor) -> int:
        import torch

        if not self.energy:
            return max(1, round(self.rank * min(matrix.shape)))
        energy = torch.linalg.svdvals(matrix.double()).square().cumsum(0)
        return int((energy < self.energy * energy[-1]).sum()) + 1


def _pair(layer: Layer, rank: int, rehearsal: bool) -> nn.Module:
    """The thin layers whose product is nearest to a layer's matrix (Eckart and Young, 1936)."""
    import torch
    from torch import nn

    from .layers import thin

    first, second = thin(layer, rank, layer.bias is not None)
    for part in (first.weight, second.weight):
        part.requires_grad_(layer.weight.requires_grad)
    if layer.bias is not None and second.bias is not None:
        second.bias.requires_grad_(layer.bias.requires_grad)
    if not rehearsal:
        u, s, v = torch.linalg.svd(layer.weight.detach().flatten(1).double(), full_matrices=False)
        root = s[:rank].sqrt()  # shared out evenly, so that both train alike
        with torch.no_grad():
            first.weight.copy_((root[:, None] * v[:rank]).view_as(first.weight))
            second.weight.copy_((u[:, :rank] * root).view_as(second.weight))
            if layer.bias is not None and second.bias is not None:
                second.bias.copy_(layer.bias)
    return nn.Sequential(first, second)
