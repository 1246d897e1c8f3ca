"""Masks: weights held at zero, which shows what a layer can do without; by itself that saves nothing here."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from ..errors import SpecError
from ..spec import Spec
from .base import Compressor, Epochs, Work

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .layers import Layer

LABEL = "mask only: no smaller, no faster here"
PATTERN = re.compile(r"([1-9]\d*):([1-9]\d*)")


class Mask(Compressor):
    """
    Holds the smallest weights at zero: mask only, no smaller and no faster here, unless `share` stores what is left.

    A dense layer computes with zeros as with any number; only hardware with kernels for 2:4 gains from that pattern.
    `scope` "layer" takes the same ratio of each layer, "global" of all of them together, by what a weight is of the
    squares of those in its layer that are no smaller (Lee and others, LAMP, arXiv:2010.07611): so a small layer is not
    emptied for being small. In several `rounds` the ratio grows as 1 - (1 - r / rounds)^3 of it, with a share of the
    epochs after each.
    """

    def __init__(
        self,
        *,
        ratio: Annotated[float, Field(gt=0, lt=1)] = 0.5,
        pattern: str = "unstructured",
        scope: Literal["layer", "global"] = "layer",
        rounds: Annotated[int, Field(ge=1)] = 1,
        epochs: Epochs = None,
    ) -> None:
        super().__init__(epochs=epochs)
        self.ratio, self.pattern = ratio, pattern  # fraction of the weights; or N:M, N that stay of M
        self.scope, self.rounds = scope, rounds

    def refuse(self, options: dict[str, Any], before: list[tuple[str, dict[str, Any]]], spec: Spec) -> str:
        """A pattern that is none, or a ratio, scope or rounds that it can't have; more rounds than epochs."""
        pattern = options.get("pattern", "unstructured")
        if pattern == "unstructured":
            return self.too_many("mask", spec)
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
        if self.scope == "global" or self.rounds > 1:
            name = "scope" if self.scope == "global" else "rounds"
            return (
                f"compress={{'mask': {{{name!r}: {options[name]!r}}}}}: pattern={pattern!r} is the same in each layer, "
                f"from the first round on; leave {name} out"
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
        masks = self._together(layers, work.round) if self.scope == "global" else {}
        zeros = 0
        for name, layer in layers.items():
            mask = masks[name] if masks else self._mask(layer.weight.detach(), work.round)
            if isinstance(mask, str):
                left[name] = mask
            else:
                zeros += int((mask == 0).sum())
                model = replace(model, name, Masked(layer, mask))
        weights = sum(layer.weight.numel() for layer in layers.values())
        self.notes = {"label": LABEL, "zeros": zeros / weights, "left": left}
        return model

    def _mask(self, weight: Tensor, round_: int) -> Tensor | str:
        """Ones where a weight stays, else zeros; or why there can be none."""
        import torch

        if self.pattern == "unstructured":
            count = round(self.ratio * self.progress(round_) * weight.numel())
            smallest = weight.abs().flatten().argsort(stable=True)[:count]
            return torch.ones_like(weight).flatten().index_fill_(0, smallest, 0).view_as(weight)
        stay, of = (int(number) for number in self.pattern.split(":"))
        rows = weight.abs().flatten(1)  # (O, I): the pattern lies along the inputs
        if rows.shape[1] % of:
            return f"{self.pattern} needs inputs that {of} divides, not {rows.shape[1]}"
        groups = rows.unflatten(1, (-1, of))  # (O, I / M, M)
        smallest = groups.argsort(dim=2, stable=True)[..., : of - stay]
        return torch.ones_like(groups).scatter_(2, smallest, 0).view_as(weight)

    def _together(self, layers: dict[str, Layer], round_: int) -> dict[str, Tensor]:
        """The mask of each layer, where all of them are ranked together."""
        import torch

        squares = [layer.weight.detach().double().flatten().square() for layer in layers.values()]
        scores = torch.cat([_part(values) for values in squares])
        count = round(self.ratio * self.progress(round_) * len(scores))
        ones = torch.ones(len(scores)).index_fill_(0, scores.argsort(stable=True)[:count], 0)
        parts = zip(layers.items(), ones.split([len(values) for values in squares]), strict=True)
        return {name: mask.view_as(layer.weight).to(layer.weight) for (name, layer), mask in parts}

    def finish(self, model: nn.Module) -> nn.Module:
        """The layers themselves, with zeros for good."""
        from .layers import Masked, settled

        return settled(model, Masked)


def _part(squares: Tensor) -> Tensor:
    """Of each number (n,), what it is of the sum of those that are no smaller."""
    import torch

    falling, order = squares.sort(descending=True, stable=True)
    return torch.empty_like(squares).scatter_(0, order, falling / falling.cumsum(0).clamp(min=1e-300))
