"""Masks: weights held at zero, which shows what a layer can do without, and saves nothing here."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from ..errors import SpecError
from .base import Compressor, Epochs, Work

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..spec import Spec

LABEL = "mask only: no smaller, no faster here"
PATTERN = re.compile(r"([1-9]\d*):([1-9]\d*)")


class Mask(Compressor):
    """
    Holds the smallest weights of each layer at zero: mask only, no smaller and no faster here.

    A dense layer computes with zeros as with any number; only hardware with kernels for 2:4 gains from that pattern.
    """

    def __init__(
        self,
        *,
        ratio: Annotated[float, Field(gt=0, lt=1)] = 0.5,
        pattern: str = "unstructured",
        epochs: Epochs = None,
    ) -> None:
        super().__init__(epochs=epochs)
        self.ratio, self.pattern = ratio, pattern  # fraction of each layer's weights; or N:M, N that stay of M

    @classmethod
    def refuse(cls, options: dict[str, Any], before: list[tuple[str, dict[str, Any]]], spec: Spec) -> str:
        """A pattern that is none, or a ratio that it can't have."""
        pattern = options.get("pattern", "unstructured")
        if pattern == "unstructured":
            return ""
        match = PATTERN.fullmatch(pattern)
        if not match or int(match[1]) >= int(match[2]):
            return (
                f"compress={{'mask': {{'pattern': {pattern!r}}}}}: must be unstructured, or N:M such as 2:4, N below M"
            )
        ratio = 1 - int(match[1]) / int(match[2])
        if abs(options.get("ratio", ratio) - ratio) > 1e-6:
            return (
                f"compress={{'mask': {{'ratio': {options['ratio']}}}}}: pattern={pattern!r} leaves {match[1]} of "
                f"{match[2]}, which is ratio={ratio:g}; leave one of the two out"
            )
        return ""

    def bears(self, after: Compressor) -> str:
        """What trains after it would lose its zeros."""
        if after.keeps_zeros:
            return ""
        return "it would undo the mask, whose zeros hold only while mask itself trains; put mask after it"

    def apply(self, model: nn.Module, work: Work) -> nn.Module:
        """Each layer behind a mask, chosen by the size of its weights."""
        from .layers import Masked, replace, shared, weighted

        left = {name: f"shares its weight with {other}" for name, other in shared(model).items()}
        chosen = {name: layer for name, layer in weighted(model) if name not in left}
        if not chosen:
            raise SpecError("compress='mask': the model has no Linear or Conv2d layer of its own to mask")
        zeros = total = 0
        for name, layer in chosen.items():
            mask, why = self._mask(layer.weight.detach())
            if why:
                left[name] = why
            zeros, total = zeros + int((mask == 0).sum()), total + mask.numel()
            model = replace(model, name, Masked(layer, mask))
        self.told = {"label": LABEL, "zeros": zeros / total, "left": left}
        return model

    def _mask(self, weight: Tensor) -> tuple[Tensor, str]:
        """Ones where a weight stays, and why there are no zeros, if so."""
        import torch

        mask = torch.ones_like(weight)
        if self.pattern == "unstructured":
            gone = round(self.ratio * weight.numel())
            mask.view(-1)[weight.abs().flatten().argsort(stable=True)[:gone]] = 0
            return mask, ""
        stay, of = (int(number) for number in self.pattern.split(":"))
        rows = weight.abs().flatten(1)  # (O, I): the pattern lies along the inputs
        if rows.shape[1] % of:
            return mask, f"{self.pattern} needs inputs that {of} divides, not {rows.shape[1]}"
        groups = rows.unflatten(1, (-1, of))  # (O, I / M, M)
        order = groups.argsort(dim=2, stable=True)[..., : of - stay]
        return torch.ones_like(groups).scatter_(2, order, 0).view_as(weight), ""

    def finish(self, model: nn.Module) -> nn.Module:
        """The layers themselves, with zeros for good."""
        from .layers import Masked, settled

        return settled(model, Masked)
