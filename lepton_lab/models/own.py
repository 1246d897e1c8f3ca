"""A user's own model: a module, or what makes one of the data that it is to take."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from ..errors import SpecError
from ..values import called, taken

if TYPE_CHECKING:
    from torch import nn

OFFERED = ("shape", "classes", "vocabulary")  # what a maker of a model may ask for


def trainable(model: nn.Module, name: str) -> None:
    """Refuse, with a SpecError, a model in which nothing can be trained: without parameters, or with all frozen."""
    parameters = list(model.parameters())
    if not parameters:
        raise SpecError(f"model={name} has no parameters, so that there is nothing to train")
    if not any(parameter.requires_grad for parameter in parameters):
        raise SpecError(
            f"model={name} has {len(parameters)} parameters, all frozen (requires_grad=False): leave some trainable"
        )


def build(maker: Any, shape: tuple[int, ...], classes: int, vocabulary: int = 0) -> nn.Module:
    """
    A module from what a user passed as `model`: a module, or a class or function that makes one.

    It is called with `shape` (of one sample), `classes` (their number) and `vocabulary` (kinds of tokens, or 0), by
    name, as far as it asks for them. One that asks for something else, or makes no module, is a SpecError.
    """
    from torch import nn

    model = maker
    if not isinstance(maker, nn.Module):
        offered = dict(zip(OFFERED, (shape, classes, vocabulary), strict=True))
        model = maker(**{argument: offered[argument] for argument in arguments(maker)})
    if not isinstance(model, nn.Module):
        raise SpecError(f"model={called(maker)} made a {type(model).__name__}, not a torch.nn.Module")
    _sized(model, shape, vocabulary)
    return _dense(model)


def _dense(model: nn.Module) -> nn.Module:
    """
    The model, with every parameter and buffer in memory of its own without gaps.

    An expanded buffer, whose rows are one in memory, can't be written to, as a resume and other ranks must; a part of
    a larger tensor would be taken for all of it. DDP's broadcast fails on an axis of one with an odd stride. What
    several names or tensors share, they share after it too.
    """
    import torch
    from torch._prims_common import is_non_overlapping_and_dense_or_false
    from torch.nn.parameter import is_lazy

    def dense(tensor: torch.Tensor) -> bool:
        usual = torch.empty(tensor.shape, device="meta").stride()
        odd = tensor.is_contiguous() and tensor.stride() != usual
        return is_non_overlapping_and_dense_or_false(tensor) and not odd

    copies: dict[Any, torch.Tensor] = {}  # by what tells one view of memory from another
    for tensor in (*model.parameters(), *model.buffers()):
        if is_lazy(tensor) or dense(tensor):
            continue
        view = tensor.device, tensor.dtype, tensor.data_ptr(), tuple(tensor.shape), tensor.stride()
        if view not in copies or tensor.is_meta:
            copies[view] = tensor.detach().clone(memory_format=torch.contiguous_format)
        tensor.data = copies[view]
    return model


def _sized(model: nn.Module, shape: tuple[int, ...], vocabulary: int) -> None:
    """Let lazy layers learn their sizes from two samples of zeros, without training anything."""
    import torch

    if not _lazy(model):
        return
    x = torch.zeros((2, *shape), dtype=torch.long if vocabulary else torch.float32)
    training = model.training
    try:
        with torch.no_grad():
            model.eval()(x)
    except Exception as error:
        why = " ".join(str(error).split())
        raise SpecError(
            f"model={called(model)} has lazy layers, whose sizes can't be had from a batch of shape {tuple(x.shape)} "
            f"({why}); give the layers their sizes"
        ) from error
    model.train(training)
    if _lazy(model):
        raise SpecError(f"model={called(model)} has lazy layers that a batch does not reach; give them their sizes")


def _lazy(model: nn.Module) -> bool:
    from torch.nn.parameter import is_lazy

    return any(is_lazy(tensor) for tensor in (*model.parameters(), *model.buffers()))


def arguments(maker: Any) -> list[str]:
    """Which of OFFERED a maker asks for; a SpecError where it needs anything else."""
    names, lacking = taken(inspect.signature(maker).parameters.values(), OFFERED)
    if lacking:
        raise SpecError(
            f"model={called(maker)} needs {lacking!r}, which nobody gives it: only `shape`, `classes` and "
            f"`vocabulary` are passed; give it a default, or pass model=lambda: {called(maker)}(...)"
        )
    return names
