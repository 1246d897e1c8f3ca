"""
Losses: the usual ones, and what is known of torch's.

Legend of the shape comments: B samples, K classes, T tokens.
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from .batches import described
from .errors import SpecError

if TYPE_CHECKING:
    from torch import Tensor

    from .datasets import Data

    Loss = Callable[[Tensor, Tensor], Tensor]

IGNORED = -100
"""The target that torch's cross entropy leaves out unless told otherwise."""


class Terms(NamedTuple):
    """What is known of one of torch's losses."""

    sum: Loss
    """The same, as a sum."""
    weight: Tensor | None = None
    """Of each class, (K,)."""
    ignored: int = IGNORED
    summed: bool = False
    """Whether it is a sum itself."""

    @property
    def plain(self) -> bool:
        """Whether it is a cross entropy without weights of classes and without smoothed labels."""
        options = self.sum.keywords if isinstance(self.sum, functools.partial) else vars(self.sum)
        return self.weight is None and not options.get("label_smoothing")

    def alike(self, data: Data) -> bool:
        """Whether all samples of some data weigh the same; a Dataset's targets are not known."""
        parts = [part for part in (data.train, data.val, data.test) if part is not None]
        targets = [part[1] for part in parts if isinstance(part, tuple)]
        if self.summed or self.weight is not None or len(targets) < len(parts):
            return False
        moved = data.augmented and any(y.dim() > 2 for y in targets)  # labels of pixels, of which some may be lost
        return not moved and not any((y == self.ignored).any() for y in targets)

    def weigh(self, target: Tensor) -> Tensor:
        """What a batch's targets weigh together, in float64; a label without a weight is a SpecError."""
        if target.is_floating_point():  # chances of each class, (B, K, ...), whose places weigh alike
            return exact(target.numel() / target.shape[1], target)
        counted = target != self.ignored
        if self.weight is None:
            return counted.sum().double()
        try:
            return (self.weight.to(target.device).double()[target.where(counted, 0)] * counted).sum()
        except IndexError:
            raise SpecError(
                f"loss: weight has {len(self.weight)} numbers, and a label is {int(target.max())}; give one for each "
                "class, counted from 0"
            ) from None


def terms(loss: Loss) -> Terms | None:
    """What is known of a loss; None of any but torch's, and a SpecError of one that gives a number for each sample."""
    from torch import nn
    from torch.nn import functional
    from torch.nn.modules.loss import _Loss

    function: Any = loss
    options: dict[str, Any] = {}
    if isinstance(loss, functools.partial) and not loss.args:
        function, options = loss.func, loss.keywords
    if function in (functional.cross_entropy, functional.nll_loss, token_loss):
        _reduced(loss, reduction := options.get("reduction", "mean"))
        as_sum = functools.partial(function, **{**options, "reduction": "sum"})
        return Terms(as_sum, options.get("weight"), options.get("ignore_index", IGNORED), reduction == "sum")
    if not isinstance(loss, _Loss):
        return None
    _reduced(loss, loss.reduction)
    entropies = (nn.CrossEntropyLoss, nn.NLLLoss)
    if isinstance(loss, entropies) and type(loss).forward in [kind.forward for kind in entropies]:
        total = copy.copy(loss)
        total.reduction = "sum"
        return Terms(total, loss.weight, loss.ignore_index, loss.reduction == "sum")
    return Terms(loss, summed=True) if loss.reduction == "sum" else None


def _reduced(loss: Loss, reduction: str) -> None:
    if reduction == "none":
        name = getattr(loss, "__name__", type(loss).__name__)
        raise SpecError(f"loss={name}: reduction='none' gives a number for each sample; take reduction='mean'")


def token_loss(output: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """Mean cross entropy of scores (B, T, K) over all tokens (B, T), or of (B, K) over labels (B,)."""
    from torch.nn import functional

    return functional.cross_entropy(output.flatten(0, -2), target.flatten(), reduction=reduction)


def squared_error(output: Tensor, target: Tensor) -> Tensor:
    """
    Mean squared error, taking an output (B, 1) for a target (B,) too, which would broadcast to (B, B).

    Not as many outputs as targets are a SpecError.
    """
    if output.numel() != target.numel():
        raise SpecError(
            f"the model gives {tuple(output.shape)} for targets {tuple(target.shape)} of floats, which a regression "
            "compares one by one: give y as whole numbers if they are labels, or loss=..."
        )
    return (output.reshape(target.shape) - target).square().mean()


def usual_loss(data: Data) -> Loss:
    """What is trained where the user gives no loss: cross entropy for classes and tokens, else the squared error."""
    from torch.nn import functional

    return squared_error if not data.classes else token_loss if data.vocabulary else functional.cross_entropy


def ignored(loss: Loss | None) -> int:
    """The target that a loss leaves out."""
    known = terms(loss) if loss is not None else None
    return known.ignored if known else IGNORED


def yes_or_no(loss: Loss) -> bool:
    """Whether a loss of torch's takes each output for a score of its own for yes or no."""
    from torch import nn
    from torch.nn import functional

    function = loss.func if isinstance(loss, functools.partial) else loss
    functions = (functional.binary_cross_entropy_with_logits, functional.multilabel_soft_margin_loss)
    return isinstance(loss, (nn.BCEWithLogitsLoss, nn.MultiLabelSoftMarginLoss)) or function in functions


def takes_chances(loss: Loss) -> bool:
    """Whether a loss is a cross entropy, whose targets may be chances of each class."""
    from torch import nn
    from torch.nn import functional

    function = loss.func if isinstance(loss, functools.partial) else loss
    summed = known.summed if (known := terms(loss)) else True
    return not summed and (isinstance(loss, nn.CrossEntropyLoss) or function is functional.cross_entropy)


def unreduced(loss: Any, output: Tensor, target: Tensor) -> Tensor | None:
    """The values of which a loss is the mean or the sum, of torch's and the usual ones; None of any other."""
    from torch.nn.modules.loss import _Loss

    if isinstance(loss, _Loss):
        loss = copy.copy(loss)
        loss.reduction = "none"
        return loss(output, target)
    if terms(loss) is not None or yes_or_no(loss):
        return functools.partial(loss, reduction="none")(output, target)
    return (output.reshape(target.shape) - target).square() if loss is squared_error else None


def weigh(weight: float, what: str) -> float:
    """The weight of a loss in a sum, refused with a SpecError where it is below 0 or no number; `what` names it."""
    if not (math.isfinite(weight) and weight >= 0):
        raise SpecError(
            f"{what}={weight:g}: the weight of a loss must be 0 or more; where it is to be maximised, return -loss"
        )
    return weight


def number(value: Any, what: str) -> Any:
    """A loss that is one number, refused with a SpecError where it is not; `what` is what the sentence calls it."""
    import torch

    if not isinstance(value, torch.Tensor):
        raise SpecError(
            f"{what} is {described(value)}, and must be a tensor of one number: return what is to be minimised, "
            "without item()"
        )
    if value.numel() != 1:
        raise SpecError(f"{what} is a tensor of shape {tuple(value.shape)}, and must be one number: take its mean()")
    return value.reshape(()) if value.ndim else value


def exact(value: Any, beside: Tensor) -> Tensor:
    """A number as a scalar in float64, on the device of a tensor."""
    import torch

    return torch.as_tensor(value, dtype=torch.float64, device=beside.device)
