"""Masks: weights held at zero, which shows what a layer can do without, and saves nothing here."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from ..errors import SpecError
from ..spec import Spec
from .base import Compressor, Epochs, Work

if TYPE_CHECKING:
    from torch import Tensor, nn

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

    def refuse(self, options: dict[str, Any], before: list[tuple[str, dict[str, Any]]], spec: Spec) -> str:
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

    def forbids(self, after: Compressor) -> str:
        """What trains after it would lose its zeros."""
        if after.keeps_zeros:
            return ""
        return "it would undo the mask, whose zeros hold only while mask itself trains; put mask after it"

    def apply(self, model: nn.Module, work: Work) -> nn.Module:
        """Each layer behind a mask, chosen by the size of its weights."""
        from .layers import Masked, replace, unshared

        layers, left = unshared(model)
        if not layers:
            raise SpecError("compress='mask': the model has no Linear or Conv2d layer of its own to mask")
        zeros = 0
        for name, layer in layers.items():
            mask = self._mask(layer.weight.detach())
            if isinstance(mask, str):
                left[name] = mask
            else:
                zeros += int((mask == 0).sum())
                model = replace(model, name, Masked(layer, mask))
        weights = sum(layer.weight.numel() for layer in layers.values())
        self.notes = {"label": LABEL, "zeros": zeros / weights, "left": left}
        return model

    def _mask(self, weight: Tensor) -> Tensor | str:
        """Ones where a weight stays, else zeros; or why there can be none."""
        import torch

        if self.pattern == "unstructured":
            smallest = weight.abs().flatten().argsort(stable=True)[: round(self.ratio * weight.numel())]
            return torch.ones_like(weight).flatten().index_fill_(0, smallest, 0).view_as(weight)
        stay, of = (int(number) for number in self.pattern.split(":"))
        rows = weight.abs().flatten(1)  # (O, I): the pattern lies along the inputs
        if rows.shape[1] % of:
            return f"{self.pattern} needs inputs that {of} divides, not {rows.shape[1]}"
        groups = rows.unflatten(1, (-1, of))  # (O, I / M, M)
        smallest = groups.argsort(dim=2, stable=True)[..., : of - stay]
        return torch.ones_like(groups).scatter_(2, smallest, 0).view_as(weight)

    def finish(self, model: nn.Module) -> nn.Module:
        """The layers themselves, with zeros for good."""
        from .layers import Masked, settled

        return settled(model, Masked)
