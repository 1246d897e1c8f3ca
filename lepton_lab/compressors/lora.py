"""LoRA: a trained model learns something new through thin layers beside its own."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from ..errors import SpecError, needs
from ..switches import quiet
from .base import Compressor, Epochs, Work

if TYPE_CHECKING:
    from torch import nn

PRETRAINED, ADAPTED = "transformers.modeling_utils.PreTrainedModel", "peft.peft_model.PeftModel"


class Lora(Compressor):
    """
    Fine-tunes low-rank adapters beside frozen layers, on the same or other data; then merges them into the weights.

    It makes fine-tuning cheap, and the model no smaller: an adapter of rank r trains r (m + n) numbers of m n. Models
    of Hugging Face's are adapted by their peft (extra `nlp`), which knows their kinds of layers.
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

    def forbids(self, after: Compressor) -> str:
        """What trains after it would find thin layers beside the others."""
        if self.merge or after.last:
            return ""
        return "adapters that are not merged must be the last to train; take merge=True"

    def apply(self, model: nn.Module, work: Work) -> nn.Module:
        """Everything frozen, and an adapter beside each layer."""
        import torch

        from .layers import Adapted, freeze, replace, unshared

        bodies = dict(foreign(model, PRETRAINED))
        layers, left = unshared(model)
        freeze(model)
        generator = torch.Generator().manual_seed(work.spec.seed)
        for name, layer in layers.items():
            if name.startswith(tuple(f"{body}." for body in bodies)):
                continue
            if getattr(layer, "groups", 1) > 1:
                left[name] = "a convolution in groups"
            else:
                model = replace(model, name, Adapted(layer, self.rank, self.alpha, generator))
        for name, body in bodies.items():
            replace(model, name, by_peft(body, self.rank, self.alpha, work.spec.seed))
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        if not trained:
            raise SpecError("compress='lora': the model has no Linear or Conv2d layer of its own to adapt")
        self.notes = {"trained": trained, "left": left}
        return model

    def finish(self, model: nn.Module) -> nn.Module:
        """The layers with what was learned merged into them, if `merge`; what was frozen before is frozen again."""
        from .layers import Adapted, replace, settled, unfreeze

        if self.merge:
            model = settled(model, Adapted)
            for name, body in list(foreign(model, ADAPTED)):
                with quiet():  # its progress bar, even one that is not shown, leaves a thread
                    replace(model, name, body.merge_and_unload())
        unfreeze(model)
        return model


def foreign(model: nn.Module, kind: str) -> Iterator[tuple[str, Any]]:
    """Name and module of each of a kind within a module, the outermost only; nothing is imported to tell."""
    inside: tuple[str, ...] = ()
    for name, module in model.named_modules():
        kinds = [f"{each.__module__}.{each.__qualname__}" for each in type(module).__mro__]
        if name and not name.startswith(inside) and kind in kinds:
            inside = (*inside, f"{name}.")
            yield name, module


def by_peft(body: nn.Module, rank: int, alpha: float, seed: int) -> nn.Module:
    """A model of Hugging Face's with peft's adapters beside all its layers, the last one too: labels may be new."""
    import torch

    needs(f"compress='lora': {type(body).__name__}", "peft")
    from peft import LoraConfig, get_peft_model

    from .layers import shared

    kinds, tied = ("Linear", "Conv1D", "Conv2d"), shared(body)
    names = [name for name, layer in body.named_modules() if type(layer).__name__ in kinds and name not in tied]
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft tells which way a layer's weight lies, which it finds out itself
        torch.manual_seed(seed)  # the same adapters in every rank
        scale: Any = alpha  # which peft takes as a float too
        return get_peft_model(body, LoraConfig(r=rank, lora_alpha=scale, target_modules=names))
