"""LoRA: a trained model learns something new through thin layers beside its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from ..refusals import SpecError
from .base import Compressor, Epochs, Work

if TYPE_CHECKING:
    from torch import nn


class Lora(Compressor):
    """
    Fine-tunes low-rank adapters beside frozen layers, on the same or other data; then merges them into the weights.

    It makes fine-tuning cheap, and the model no smaller: an adapter of rank r trains r (m + n) numbers of m n.
    """

    def __init__(
        self,
        *,
        rank: Annotated[int, Field(ge=1)] = 8,
        alpha: Annotated[float, Field(gt=0)] = 16.0,
        merge: bool = True,
        epochs: Epochs = None,
    ) -> None:
        super().__init__(epochs=epochs)
        self.rank, self.alpha, self.merge = rank, alpha, merge  # alpha / rank scales what is added

    def apply(self, model: nn.Module, work: Work) -> nn.Module:
        """Everything frozen, and an adapter beside each layer."""
        import torch

        from .layers import Adapted, replace, shared, weighted

        left = {name: f"shares its weight with {other}" for name, other in shared(model).items()}
        model.requires_grad_(False)
        generator = torch.Generator().manual_seed(work.spec.seed)
        adapted = [name for name, layer in weighted(model) if name not in left]
        for name, layer in list(weighted(model)):
            if name in left:
                continue
            if getattr(layer, "groups", 1) > 1:
                left[name] = "a convolution in groups"
                continue
            beside = Adapted(layer, self.rank, self.alpha, generator)
            if name:
                replace(model, name, beside)
            else:
                model = beside
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        if not adapted or not trained:
            raise SpecError("compress='lora': the model has no Linear or Conv2d layer of its own to adapt")
        self.told = {"trained": trained, "left": left}
        return model

    def finish(self, model: nn.Module) -> nn.Module:
        """The layers themselves with what was learned in them, free to train again; or as it is, if not to merge."""
        from .layers import Adapted, swap

        model.requires_grad_(True)
        return swap(model, Adapted, lambda layer: layer.plain()) if self.merge else model
