"""What can be seen of a model before its first step, on a copy of it without memory: torch's meta device."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from ..batches import call, described, over, tensors
from ..datasets import Data, length
from ..errors import SpecError
from ..spec import Spec, full_batch
from .feed import alone

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from ..tasks import Task

T = TypeVar("T")
NUMBERLESS = (RuntimeError, TypeError)
"""What torch raises where a tensor without memory is asked for its numbers; the second where NumPy is."""
log = logging.getLogger(__name__)


def bare(make: Callable[[], nn.Module]) -> nn.Module | None:
    """What is made, without memory; None of a model that needs numbers to be made."""
    return tried(lambda: _without_memory(lambda: make().to("meta")))


def tried(act: Callable[[], T]) -> T | None:
    """
    What an act on tensors without memory gives; None where it can't be done so, which says nothing of a real one.

    Raises
    ------
    SpecError
        As the act does.
    """
    try:
        return act()
    except SpecError:
        raise
    except NUMBERLESS:
        return None
    except Exception:  # a user's code may raise anything, and then does so in a rank again
        log.info("a model can't be tried without memory", exc_info=True)
        return None


def _without_memory(act: Callable[[], T]) -> T:
    import torch

    with torch.random.fork_rng(devices=[]), torch.device("meta"), torch.no_grad():
        return act()


def samples(data: Data, count: int) -> Tensor:
    """Inputs of so many samples, without memory."""
    import torch

    kind = torch.long if data.vocabulary else torch.float32
    return torch.empty((count, *data.shape), dtype=kind, device="meta")


def normalises(model: nn.Module, data: Data, spec: Spec, parts: int) -> None:
    """
    Refuse a batch size that leaves a sample alone, where the model's batch normalisation can't take one alone.

    Parameters
    ----------
    model
        It stays as it is.
    parts
        Into how many parts ranks cut each batch.

    Raises
    ------
    SpecError
        One sentence with a batch size to take.
    """
    from torch.nn.modules.batchnorm import _BatchNorm

    n = length(data.train)
    if not alone(spec, n, parts) or not any(isinstance(layer, _BatchNorm) for layer in model.modules()):
        return
    if not tried(lambda: _refuses_one(model, data)):
        return
    smallest = max(2, spec.world * spec.accumulate)  # that a Spec takes
    sizes = sorted(range(smallest, max(n, spec.batch_size) + 1), key=lambda size: abs(size - spec.batch_size))
    copies = (spec.model_copy(update={"batch_size": size}) for size in sizes if not full_batch(spec))
    fits = next((one.batch_size for one in copies if not alone(one, n, parts)), None)
    remedy = f"take batch_size={fits}" if fits else "give more samples, or take fewer ranks"
    raise SpecError(
        f"batch_size={spec.batch_size}: with {n} training samples a rank gets a batch of one, which the model's batch "
        f"normalisation can't take; {remedy}"
    )


def labelled(data: Data) -> bool:
    """Whether targets of a regression look like labels: one whole number a sample."""
    y = data.train[1] if isinstance(data.train, tuple) else None
    return y is not None and y.is_floating_point() and y[0].numel() == 1 and bool((y == y.round()).all())


def answers(model: nn.Module, data: Data) -> None:
    """
    Refuse labels that were given as floats, and so are targets of a regression, where the model scores classes.

    Raises
    ------
    SpecError
        One sentence that says how to give labels.
    """
    output: Any = tried(lambda: _output(model, data, 2))
    if getattr(output, "ndim", 0) == 2 and output.shape[1] > 1:
        raise SpecError(
            f"data: train y are floats, one a sample, and the model gives {output.shape[1]} numbers: give y.long() if "
            "they are labels, or a loss=... that compares the two"
        )


def pixels(model: nn.Module, task: Task) -> None:
    """
    Refuse bytes in samples of several parts that reach the model as they are, if it takes floats in their place.

    Whether those of a nest are pictures, masks or numbers only a user knows; so they are not scaled.

    Raises
    ------
    SpecError
        One sentence that says where to divide.
    """
    import torch

    example = task.data.example
    if example is None or task.steps():
        return
    question = tried(lambda: task.question(example))
    raw = [leaf for leaf in tensors(question) if leaf.dtype == torch.uint8]
    if raw and not _takes(model, question, torch.uint8) and _takes(model, question, torch.float32):
        shapes = " and ".join(str(tuple(leaf.shape[1:])) for leaf in raw)
        raise SpecError(
            f"data: samples are {described(example)}, whose uint8 of shape {shapes} reach the model as they are, and "
            "it takes floats: give x.float() / 255 in the Dataset, or do that in the model"
        )


def _takes(model: nn.Module, question: Any, kind: torch.dtype) -> bool:
    """Whether a copy without memory can be called with uint8 as another kind of numbers."""
    import torch

    def outline(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor):
            return leaf
        return torch.empty(leaf.shape, dtype=kind if leaf.dtype == torch.uint8 else leaf.dtype, device="meta")

    def ask() -> bool:
        call(copy.deepcopy(model).to("meta"), over(outline, question))
        return True

    return tried(lambda: _without_memory(ask)) or False


def _refuses_one(model: nn.Module, data: Data) -> bool:
    """Whether batch normalisation refuses a sample alone."""
    try:
        _output(model, data, 1)
    except ValueError as error:
        return "more than 1 value per channel" in str(error)
    return False


def _output(model: nn.Module, data: Data, count: int) -> Any:
    """What a copy gives for so many samples, in training and without memory."""
    return _without_memory(lambda: copy.deepcopy(model).to("meta").train()(samples(data, count)))
